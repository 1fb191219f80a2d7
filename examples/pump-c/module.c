// A pump that counts: each message on any input is so many strokes (a number as text). The total is durable, is sent on the
// output `total` at each beat of the timer, and is reported in the twin; the method `reset` begins anew.
#include "holdfast.h"

#include <stdlib.h>

HOLDFAST_OUTPUTS("total");

#define BEAT "beat"

// The total so far, 0 at first. What cannot be read fails the call.
static holdfast_error total(long long *strokes) {
    holdfast_text kept;
    bool found;
    holdfast_error failed = holdfast_state_get("strokes", &kept, &found);
    if (!failed) *strokes = found ? atoll(holdfast_ended(kept)) : 0;
    return failed;
}

static holdfast_error keep(long long strokes) {
    return holdfast_state_set("strokes", holdfast_print("%lld", strokes));
}

holdfast_outcome holdfast_start(void) {
    holdfast_text period;
    bool set;
    holdfast_error failed = holdfast_config("period_ms", &period, &set);
    if (failed) return holdfast_retry("%s", failed);
    int ms = set ? atoi(holdfast_ended(period)) : 10000;
    if (ms < 10) return holdfast_reject("period_ms = %d is too short; 10 or more is needed", ms);
    failed = holdfast_every(BEAT, (uint32_t)ms);
    if (failed) return holdfast_retry("%s", failed);
    holdfast_log(HOLDFAST_INFO, "the total is sent each %d ms", ms);
    return holdfast_done();
}

holdfast_outcome holdfast_handle(holdfast_text input, const holdfast_message *message) {
    (void)input;
    const char *body = holdfast_ended(holdfast_body(message));
    char *end;
    long long more = strtoll(body, &end, 10), strokes;
    if (end == body || *end || more < 0) return holdfast_reject("a number of strokes is wanted, not \"%.40s\"", body);
    holdfast_error failed = total(&strokes);
    if (!failed) failed = keep(strokes + more);
    if (!failed) failed = holdfast_count("strokes_total", (uint64_t)more);
    if (!failed) failed = holdfast_gauge("pressure_bar", 1.5);
    if (!failed) failed = holdfast_observe("strokes", (double)more);
    return failed ? holdfast_retry("%s", failed) : holdfast_done();
}

holdfast_outcome holdfast_fire(holdfast_text timer) {
    (void)timer;
    long long strokes;
    holdfast_error failed = total(&strokes);
    if (!failed) failed = holdfast_send("total", holdfast_print("{\"strokes\":%lld}", strokes), "application/json");
    if (!failed) failed = holdfast_twin_report(holdfast_print("{\"strokes\":%lld}", strokes));
    return failed ? holdfast_retry("%s", failed) : holdfast_done();
}

holdfast_outcome holdfast_desired(uint64_t version, holdfast_text patch) {
    holdfast_log(HOLDFAST_INFO, "desired %llu: %s", (unsigned long long)version, holdfast_ended(patch));
    return holdfast_done();
}

holdfast_outcome holdfast_invoke(holdfast_text method, holdfast_text payload, holdfast_reply *reply) {
    (void)payload;
    if (!holdfast_same(method, "reset")) {
        reply->status = 404;
        reply->json = holdfast_of("{\"error\":\"the one method is reset\"}");
        return holdfast_done();
    }
    long long before;
    holdfast_error failed = total(&before);
    if (!failed) failed = keep(0);
    if (failed) return holdfast_retry("%s", failed);
    reply->json = holdfast_print("{\"before\":%lld}", before);
    return holdfast_done();
}
