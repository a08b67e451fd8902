// Takes a 200 whose body is an error for what it is, as policies/error-in-success does in Rust.

#include "policy.h"
#include <string.h>

// Texts that go to the host are freed by the bindings once it has read them, so they are copies.
void exports_spillway_policy_description_describe(exports_spillway_policy_description_description_t *about) {
  policy_string_dup(&about->name, "error-in-success");
  policy_string_dup(&about->version, "0.1.0");
  policy_string_dup(&about->summary, "Takes a 200 whose body is an error for what it is");
  about->hooks = EXPORTS_SPILLWAY_POLICY_DESCRIPTION_HOOKS_CLASSIFY;
}

// Settings are a JSON object. This policy has none, and a key that it does not know is a mistake.
bool exports_spillway_policy_description_configure(policy_string_t *settings, policy_string_t *error) {
  bool none = settings->len == 0 || (settings->len == 2 && memcmp(settings->ptr, "{}", 2) == 0);
  policy_string_free(settings);
  if (!none) policy_string_dup(error, "this policy has no settings");
  return none;
}

static bool is(const policy_option_string_t *text, const char *expected) {
  return text->is_some && text->val.len == strlen(expected) && memcmp(text->val.ptr, expected, text->val.len) == 0;
}

static bool judge(spillway_policy_host_borrow_attempt_t attempt, exports_spillway_policy_classifier_verdict_t *verdict) {
  uint16_t status;
  spillway_policy_host_fault_t fault;
  spillway_policy_host_provider_error_t error;
  // What a stream says, the built-in policy knows better.
  if (spillway_policy_host_method_attempt_streaming(attempt)) return false;
  if (!spillway_policy_host_method_attempt_status(attempt, &status) || status / 100 != 2) return false;
  if (spillway_policy_host_method_attempt_fault(attempt, &fault)) return false;
  if (!spillway_policy_host_method_attempt_provider_error(attempt, &error)) return false;

  bool throttled = is(&error.code, "rate_limit_exceeded");
  spillway_policy_host_provider_error_free(&error);
  verdict->advice = EXPORTS_SPILLWAY_POLICY_CLASSIFIER_ADVICE_RETRY;
  // Of a rate limit: this model under this credential. Of a failure: this model for everybody.
  verdict->scope = EXPORTS_SPILLWAY_POLICY_CLASSIFIER_SCOPE_MODEL;
  if (throttled) {
    verdict->class_ = EXPORTS_SPILLWAY_POLICY_CLASSIFIER_CLASS_THROTTLED;
    verdict->cool_off_ms.is_some =
        spillway_policy_host_method_attempt_retry_after_ms(attempt, &verdict->cool_off_ms.val);
    policy_string_dup(&verdict->reason, "200 with a rate limit");
  } else {
    verdict->class_ = EXPORTS_SPILLWAY_POLICY_CLASSIFIER_CLASS_FAILURE;
    verdict->cool_off_ms.is_some = false;
    policy_string_dup(&verdict->reason, "200 with an error");
  }
  return true;
}

// False leaves the judgement to the built-in policy. What is lent must be given back before the call ends.
bool exports_spillway_policy_classifier_classify(
    spillway_policy_host_borrow_attempt_t attempt, exports_spillway_policy_classifier_verdict_t *verdict) {
  bool judged = judge(attempt, verdict);
  spillway_policy_host_attempt_drop_borrow(attempt);
  return judged;
}

// These two are not among the hooks above, so they are never called.
bool exports_spillway_policy_retrying_backoff(
    spillway_policy_host_borrow_attempt_t attempt, exports_spillway_policy_retrying_verdict_t *verdict,
    exports_spillway_policy_retrying_decision_t *decision) {
  (void)verdict, (void)decision;
  spillway_policy_host_attempt_drop_borrow(attempt);
  return false;
}

bool exports_spillway_policy_tripping_trip(
    spillway_policy_host_borrow_window_t window, exports_spillway_policy_tripping_decision_t *decision) {
  (void)decision;
  spillway_policy_host_window_drop_borrow(window);
  return false;
}
