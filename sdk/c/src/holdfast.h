// Write Holdfast modules in C.
//
// A module is a sandboxed WebAssembly component that receives messages on its inputs, sends messages to its outputs, and
// keeps durable state. Write holdfast_start and holdfast_handle; the other handlers are there if you write them.
//
// What a call sends, stores and reports, and that its message is done, become durable together when it returns
// holdfast_done(). After a failure, a trap or a power cut nothing of the call remains, and the message comes again.
//
// Texts are not terminated: they have a length. Everything that a function gives back lives until the running call
// ends; holdfast_keep copies what must live longer. A function that can fail gives NULL, or why it failed.
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include "contract.h"

// A text in UTF-8, or bytes.
typedef struct {
    const uint8_t *at;
    size_t bytes;
} holdfast_text;

// Why something failed, in words that end with 0; NULL if it did not.
typedef const char *holdfast_error;

// How a call ended: holdfast_done(), holdfast_retry(…) or holdfast_reject(…).
typedef struct {
    enum { HOLDFAST_DONE, HOLDFAST_RETRY, HOLDFAST_REJECT } kind;
    const char *why;
} holdfast_outcome;

// It succeeded: what the call sent and stored takes effect.
holdfast_outcome holdfast_done(void);
// Try again later, with back-off; after the attempts that the host allows the message becomes a dead letter.
holdfast_outcome holdfast_retry(const char *format, ...) __attribute__((format(printf, 1, 2)));
// This message will never be handled: it becomes a dead letter at once.
holdfast_outcome holdfast_reject(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- What you write.

// Say at the top of a file, once, which inputs the module takes messages by and which outputs it sends by:
//     HOLDFAST_INPUTS("readings");
//     HOLDFAST_OUTPUTS("hot", "cold");
// Then a send by another output is refused, and `holdfast check` names the routes from or to what is not there. A name that
// ends with * stands for all that begin so. May be left out: everything goes then.
#define HOLDFAST_INPUTS(...) HOLDFAST_DECLARE_("inputs", __VA_ARGS__)
#define HOLDFAST_OUTPUTS(...) HOLDFAST_DECLARE_("outputs", __VA_ARGS__)
// Lines of a section of the component. The names are quoted once for the form of the settings and once for the assembler.
#define HOLDFAST_QUOTED_(...) #__VA_ARGS__
#define HOLDFAST_TWICE_QUOTED_(quoted) HOLDFAST_QUOTED_(quoted)
#define HOLDFAST_DECLARE_(key, ...)                                                      \
    __asm__(".section \".custom_section.holdfast-grants\",\"\",@\n"                      \
            ".ascii \"" key " = [\"\n"                                                   \
            ".ascii " HOLDFAST_TWICE_QUOTED_(HOLDFAST_QUOTED_(__VA_ARGS__)) "\n"         \
            ".ascii \"]\\n\"\n"                                                          \
            ".text\n")

// A message with its properties and its source; see contract.h for the fields.
typedef holdfast_module_types_message_t holdfast_message;

// A method's answer: 200 is success by custom; JSON, which may be empty.
typedef struct {
    int32_t status;
    holdfast_text json;
} holdfast_reply;

// Called once, before the first message. Anything but holdfast_done() is a failed start; the restart policy applies.
holdfast_outcome holdfast_start(void);
// Called for each message.
holdfast_outcome holdfast_handle(holdfast_text input, const holdfast_message *message);
// Called before the module is stopped or replaced. May be left out.
void holdfast_stop(void);
// A timer has run out. May be left out.
holdfast_outcome holdfast_fire(holdfast_text timer);
// The desired properties have changed: what to merge into the version before, as JSON. May be left out.
holdfast_outcome holdfast_desired(uint64_t version, holdfast_text patch);
// Somebody calls a method. May be left out; then every method is answered with 501.
holdfast_outcome holdfast_invoke(holdfast_text method, holdfast_text payload, holdfast_reply *reply);

// ---- What you call.

// A text that ends with 0, as one with a length.
holdfast_text holdfast_of(const char *text);
// A text that is written like printf does. Lives until the call ends.
holdfast_text holdfast_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same text with a 0 at its end. Lives until the call ends.
const char *holdfast_ended(holdfast_text text);
// A copy for as long as the instance lives; free() it.
holdfast_text holdfast_keep(holdfast_text text);
// Whether two texts are the same.
bool holdfast_same(holdfast_text one, const char *other);

// The body of a message.
holdfast_text holdfast_body(const holdfast_message *message);
// An application property of a message; false if it has none of that name.
bool holdfast_property(const holdfast_message *message, const char *key, holdfast_text *value);

// Sends a text to an output; routes decide where it goes. It leaves when the running call has succeeded.
holdfast_error holdfast_send(const char *output, holdfast_text body, const char *content_type);
// Passes a message on: body, properties and system properties.
holdfast_error holdfast_forward(const char *output, const holdfast_message *message);

// The durable state. `*found` says whether the key is there.
holdfast_error holdfast_state_get(const char *key, holdfast_text *value, bool *found);
holdfast_error holdfast_state_set(const char *key, holdfast_text value);
holdfast_error holdfast_state_delete(const char *key);

// A value of [config] in the module's .toml. `*found` says whether it is set.
holdfast_error holdfast_config(const char *key, holdfast_text *value, bool *found);

// Timers end in holdfast_fire. They last as long as the instance: set them anew in holdfast_start.
holdfast_error holdfast_once(const char *timer, uint32_t delay_ms);
holdfast_error holdfast_every(const char *timer, uint32_t period_ms);
void holdfast_cancel(const char *timer);

// The twin: what is desired of the module, and what it reports of itself, as JSON.
holdfast_error holdfast_twin_desired(uint64_t *version, holdfast_text *json);
holdfast_error holdfast_twin_reported(holdfast_text *json);
holdfast_error holdfast_twin_report(holdfast_text patch);

// Calls a method of "/module", "child" or "child/module" and waits for the reply; 0 ms is the usual time of 30 s.
holdfast_error holdfast_call(const char *target, const char *method, holdfast_text payload, uint32_t timeout_ms,
                             holdfast_reply *reply);

// Measurements of the module's own, shown by `holdfast list --json` and `holdfast metrics`: a counter, a gauge, a histogram.
// They are taken at once: a call that fails has been measured all the same.
holdfast_error holdfast_count(const char *metric, uint64_t by);
holdfast_error holdfast_gauge(const char *metric, double value);
holdfast_error holdfast_observe(const char *metric, double value);

typedef enum {
    HOLDFAST_TRACE,
    HOLDFAST_DEBUG,
    HOLDFAST_INFO,
    HOLDFAST_WARN,
    HOLDFAST_ERROR,
    HOLDFAST_CRITICAL,
} holdfast_level;

// Writes a line into the module's log.
void holdfast_log(holdfast_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
