// What holdfast.h says, over the generated contract.
#include "holdfast.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Memory of a call: freed when it ends.

typedef struct kept {
    struct kept *next;
    void *memory;
} kept;

static kept *of_call;

static void *until_end(void *memory) {
    if (memory) {
        kept *entry = malloc(sizeof(kept));
        if (!entry) abort();
        *entry = (kept){of_call, memory};
        of_call = entry;
    }
    return memory;
}

static void end_of_call(void) {
    while (of_call) {
        kept *entry = of_call;
        of_call = entry->next;
        free(entry->memory);
        free(entry);
    }
}

static void *take(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    // No memory is a trap: the host ends the call, and starts the module again.
    if (!memory) abort();
    return memory;
}

static char *printed(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int bytes = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (bytes < 0) bytes = 0;
    char *text = take((size_t)bytes + 1);
    text[0] = 0;
    vsnprintf(text, (size_t)bytes + 1, format, arguments);
    return until_end(text);
}

static const char *said(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = printed(format, arguments);
    va_end(arguments);
    return text;
}

// ---- Texts.

holdfast_text holdfast_of(const char *text) {
    return (holdfast_text){(const uint8_t *)text, strlen(text)};
}

holdfast_text holdfast_print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = printed(format, arguments);
    va_end(arguments);
    return holdfast_of(text);
}

const char *holdfast_ended(holdfast_text text) {
    char *copy = until_end(take(text.bytes + 1));
    if (text.bytes) memcpy(copy, text.at, text.bytes);
    copy[text.bytes] = 0;
    return copy;
}

holdfast_text holdfast_keep(holdfast_text text) {
    uint8_t *copy = take(text.bytes);
    if (text.bytes) memcpy(copy, text.at, text.bytes);
    return (holdfast_text){copy, text.bytes};
}

bool holdfast_same(holdfast_text one, const char *other) {
    size_t bytes = strlen(other);
    return one.bytes == bytes && (bytes == 0 || memcmp(one.at, other, bytes) == 0);
}

// What is lent to an import. It reads it and keeps nothing.
static contract_string_t lent(const char *text) {
    return (contract_string_t){(uint8_t *)text, strlen(text)};
}

static contract_string_t lent_text(holdfast_text text) {
    return (contract_string_t){(uint8_t *)text.at, text.bytes};
}

static contract_list_u8_t lent_bytes(holdfast_text text) {
    return (contract_list_u8_t){(uint8_t *)text.at, text.bytes};
}

// What an import has given is the call's from now on.
static holdfast_text given(contract_string_t text) {
    if (text.len) until_end(text.ptr);
    return (holdfast_text){text.ptr, text.len};
}

static const char *given_why(contract_string_t why) {
    return holdfast_ended(given(why));
}

// ---- Outcomes and handlers.

holdfast_outcome holdfast_done(void) {
    return (holdfast_outcome){HOLDFAST_DONE, NULL};
}

holdfast_outcome holdfast_retry(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    holdfast_outcome outcome = {HOLDFAST_RETRY, printed(format, arguments)};
    va_end(arguments);
    return outcome;
}

holdfast_outcome holdfast_reject(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    holdfast_outcome outcome = {HOLDFAST_REJECT, printed(format, arguments)};
    va_end(arguments);
    return outcome;
}

__attribute__((weak)) void holdfast_stop(void) {}

__attribute__((weak)) holdfast_outcome holdfast_fire(holdfast_text timer) {
    (void)timer;
    return holdfast_done();
}

__attribute__((weak)) holdfast_outcome holdfast_desired(uint64_t version, holdfast_text patch) {
    (void)version;
    (void)patch;
    return holdfast_done();
}

__attribute__((weak)) holdfast_outcome holdfast_invoke(holdfast_text method, holdfast_text payload,
                                                       holdfast_reply *reply) {
    (void)payload;
    reply->status = 501;
    reply->json = holdfast_print("{\"error\":\"this module has no method \\\"%s\\\"\"}", holdfast_ended(method));
    return holdfast_done();
}

// The reason goes to the host, which frees it: a copy that is not the call's.
static bool ended(holdfast_outcome outcome, exports_holdfast_module_handler_failure_t *failure) {
    bool done = outcome.kind == HOLDFAST_DONE;
    if (!done) {
        failure->tag = outcome.kind == HOLDFAST_RETRY ? EXPORTS_HOLDFAST_MODULE_HANDLER_FAILURE_RETRY
                                                      : EXPORTS_HOLDFAST_MODULE_HANDLER_FAILURE_REJECT;
        contract_string_dup(&failure->val.retry, outcome.why ? outcome.why : "");
    }
    end_of_call();
    return done;
}

bool exports_holdfast_module_handler_start(contract_string_t *why) {
    holdfast_outcome outcome = holdfast_start();
    bool done = outcome.kind == HOLDFAST_DONE;
    if (!done) contract_string_dup(why, outcome.why ? outcome.why : "");
    end_of_call();
    return done;
}

bool exports_holdfast_module_handler_handle(contract_string_t *input, exports_holdfast_module_handler_message_t *message,
                                            exports_holdfast_module_handler_failure_t *failure) {
    holdfast_outcome outcome = holdfast_handle((holdfast_text){input->ptr, input->len}, message);
    bool done = ended(outcome, failure);
    contract_string_free(input);
    exports_holdfast_module_handler_message_free(message);
    return done;
}

void exports_holdfast_module_handler_stop(void) {
    holdfast_stop();
    end_of_call();
}

bool exports_holdfast_module_timer_handler_fire(contract_string_t *name,
                                                exports_holdfast_module_timer_handler_failure_t *failure) {
    holdfast_outcome outcome = holdfast_fire(given(*name));
    return ended(outcome, failure);
}

bool exports_holdfast_module_twin_handler_desired(uint64_t version, contract_string_t *patch,
                                                  exports_holdfast_module_twin_handler_failure_t *failure) {
    holdfast_outcome outcome = holdfast_desired(version, given(*patch));
    return ended(outcome, failure);
}

bool exports_holdfast_module_method_handler_invoke(contract_string_t *name, contract_string_t *payload,
                                                   exports_holdfast_module_method_handler_method_reply_t *answer,
                                                   exports_holdfast_module_method_handler_failure_t *failure) {
    holdfast_reply reply = {200, {NULL, 0}};
    holdfast_outcome outcome = holdfast_invoke(given(*name), given(*payload), &reply);
    if (outcome.kind == HOLDFAST_DONE) {
        answer->status = reply.status;
        contract_string_dup_n(&answer->payload_json, reply.json.bytes ? (const char *)reply.json.at : "", reply.json.bytes);
    }
    return ended(outcome, failure);
}

// ---- Messages.

holdfast_text holdfast_body(const holdfast_message *message) {
    return (holdfast_text){message->body.ptr, message->body.len};
}

bool holdfast_property(const holdfast_message *message, const char *key, holdfast_text *value) {
    for (size_t n = 0; n < message->properties.len; n++) {
        contract_tuple2_string_string_t *property = &message->properties.ptr[n];
        if (holdfast_same((holdfast_text){property->f0.ptr, property->f0.len}, key)) {
            *value = (holdfast_text){property->f1.ptr, property->f1.len};
            return true;
        }
    }
    return false;
}

static holdfast_error send(const char *output, holdfast_module_outbox_outgoing_t *message) {
    contract_string_t name = lent(output);
    holdfast_module_outbox_send_error_t error;
    if (holdfast_module_outbox_send(&name, message, &error)) return NULL;
    switch (error.tag) {
        case HOLDFAST_MODULE_OUTBOX_SEND_ERROR_BODY_TOO_LARGE:
            return said("the body is larger than %llu bytes, the most that a message may have",
                        (unsigned long long)error.val.body_too_large);
        case HOLDFAST_MODULE_OUTBOX_SEND_ERROR_TOO_MANY_PROPERTIES:
            return said("more than %u properties", (unsigned)error.val.too_many_properties);
        // An output that will not do, or a limit: both say why.
        default:
            return given_why(error.val.quota_exceeded);
    }
}

holdfast_error holdfast_send(const char *output, holdfast_text body, const char *content_type) {
    holdfast_module_outbox_outgoing_t message = {.body = lent_bytes(body)};
    if (content_type) {
        message.system.content_type.is_some = true;
        message.system.content_type.val = lent(content_type);
    }
    return send(output, &message);
}

holdfast_error holdfast_forward(const char *output, const holdfast_message *message) {
    holdfast_module_outbox_outgoing_t passed = {message->body, message->properties, message->system};
    return send(output, &passed);
}

// ---- State and configuration.

static const char *state_error(wasi_keyvalue_store_error_t *error) {
    switch (error->tag) {
        case WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE:
            return "there is no such store";
        case WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED:
            return "the store may not be used";
        default:
            return given_why(error->val.other);
    }
}

// The one bucket is opened once and kept.
static holdfast_error bucket(wasi_keyvalue_store_borrow_bucket_t *borrowed) {
    static bool open;
    static wasi_keyvalue_store_own_bucket_t own;
    if (!open) {
        contract_string_t name = lent("");
        wasi_keyvalue_store_error_t error;
        if (!wasi_keyvalue_store_open(&name, &own, &error)) return state_error(&error);
        open = true;
    }
    *borrowed = wasi_keyvalue_store_borrow_bucket(own);
    return NULL;
}

holdfast_error holdfast_state_get(const char *key, holdfast_text *value, bool *found) {
    wasi_keyvalue_store_borrow_bucket_t in;
    holdfast_error failed = bucket(&in);
    if (failed) return failed;
    contract_string_t name = lent(key);
    contract_option_list_u8_t there;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_get(in, &name, &there, &error)) return state_error(&error);
    *found = there.is_some;
    *value = (holdfast_text){NULL, 0};
    if (there.is_some) *value = given((contract_string_t){there.val.ptr, there.val.len});
    return NULL;
}

holdfast_error holdfast_state_set(const char *key, holdfast_text value) {
    wasi_keyvalue_store_borrow_bucket_t in;
    holdfast_error failed = bucket(&in);
    if (failed) return failed;
    contract_string_t name = lent(key);
    contract_list_u8_t bytes = lent_bytes(value);
    wasi_keyvalue_store_error_t error;
    return wasi_keyvalue_store_method_bucket_set(in, &name, &bytes, &error) ? NULL : state_error(&error);
}

holdfast_error holdfast_state_delete(const char *key) {
    wasi_keyvalue_store_borrow_bucket_t in;
    holdfast_error failed = bucket(&in);
    if (failed) return failed;
    contract_string_t name = lent(key);
    wasi_keyvalue_store_error_t error;
    return wasi_keyvalue_store_method_bucket_delete(in, &name, &error) ? NULL : state_error(&error);
}

holdfast_error holdfast_config(const char *key, holdfast_text *value, bool *found) {
    contract_string_t name = lent(key);
    contract_option_string_t there;
    wasi_config_store_error_t error;
    if (!wasi_config_store_get(&name, &there, &error)) return given_why(error.val.io);
    *found = there.is_some;
    *value = (holdfast_text){NULL, 0};
    if (there.is_some) *value = given(there.val);
    return NULL;
}

// ---- Timers, twin, methods, log.

static holdfast_error timer_error(holdfast_module_timers_timer_error_t error) {
    if (error.tag == HOLDFAST_MODULE_TIMERS_TIMER_ERROR_TOO_MANY) {
        return said("more than %u timers; raise limits.timers in the module's .toml", (unsigned)error.val.too_many);
    }
    return said("the shortest time is %u ms", (unsigned)error.val.too_short);
}

holdfast_error holdfast_once(const char *timer, uint32_t delay_ms) {
    contract_string_t name = lent(timer);
    holdfast_module_timers_timer_error_t error;
    return holdfast_module_timers_set_once(&name, delay_ms, &error) ? NULL : timer_error(error);
}

holdfast_error holdfast_every(const char *timer, uint32_t period_ms) {
    contract_string_t name = lent(timer);
    holdfast_module_timers_timer_error_t error;
    return holdfast_module_timers_set_repeating(&name, period_ms, &error) ? NULL : timer_error(error);
}

void holdfast_cancel(const char *timer) {
    contract_string_t name = lent(timer);
    holdfast_module_timers_cancel(&name);
}

static holdfast_error twin_error(holdfast_module_twins_twin_error_t *error) {
    if (error->tag == HOLDFAST_MODULE_TWINS_TWIN_ERROR_TOO_MANY) {
        return said("more than %u reports in one call", (unsigned)error->val.too_many);
    }
    return given_why(error->val.invalid);
}

holdfast_error holdfast_twin_desired(uint64_t *version, holdfast_text *json) {
    holdfast_module_twins_desired_properties_t desired;
    holdfast_module_twins_twin_error_t error;
    if (!holdfast_module_twins_desired(&desired, &error)) return twin_error(&error);
    *version = desired.version;
    *json = given(desired.json);
    return NULL;
}

holdfast_error holdfast_twin_reported(holdfast_text *json) {
    contract_string_t reported;
    holdfast_module_twins_twin_error_t error;
    if (!holdfast_module_twins_reported(&reported, &error)) return twin_error(&error);
    *json = given(reported);
    return NULL;
}

holdfast_error holdfast_twin_report(holdfast_text patch) {
    contract_string_t text = lent_text(patch);
    holdfast_module_twins_twin_error_t error;
    return holdfast_module_twins_report(&text, &error) ? NULL : twin_error(&error);
}

holdfast_error holdfast_call(const char *target, const char *method, holdfast_text payload, uint32_t timeout_ms,
                             holdfast_reply *reply) {
    contract_string_t whom = lent(target), name = lent(method), text = lent_text(payload);
    holdfast_module_methods_method_reply_t answer;
    holdfast_module_methods_method_error_t error;
    if (!holdfast_module_methods_call(&whom, &name, &text, timeout_ms, &answer, &error)) {
        return given_why(error.val.invalid);
    }
    *reply = (holdfast_reply){answer.status, given(answer.payload_json)};
    return NULL;
}

static holdfast_error metric_error(holdfast_module_metrics_metric_error_t *error) {
    if (error->tag == HOLDFAST_MODULE_METRICS_METRIC_ERROR_TOO_MANY) {
        return said("more than %u metrics; raise limits.metrics in the module's .toml", (unsigned)error->val.too_many);
    }
    return given_why(error->val.invalid);
}

holdfast_error holdfast_count(const char *metric, uint64_t by) {
    contract_string_t name = lent(metric);
    holdfast_module_metrics_metric_error_t error;
    return holdfast_module_metrics_count(&name, by, &error) ? NULL : metric_error(&error);
}

holdfast_error holdfast_gauge(const char *metric, double value) {
    contract_string_t name = lent(metric);
    holdfast_module_metrics_metric_error_t error;
    return holdfast_module_metrics_gauge(&name, value, &error) ? NULL : metric_error(&error);
}

holdfast_error holdfast_observe(const char *metric, double value) {
    contract_string_t name = lent(metric);
    holdfast_module_metrics_metric_error_t error;
    return holdfast_module_metrics_observe(&name, value, &error) ? NULL : metric_error(&error);
}

void holdfast_log(holdfast_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    contract_string_t line = lent(printed(format, arguments)), context = lent("");
    va_end(arguments);
    wasi_logging_logging_log((wasi_logging_logging_level_t)level, &context, &line);
}
