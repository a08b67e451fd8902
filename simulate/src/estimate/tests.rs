use super::*;

/// A call every hundredth of a second for a minute, answered by what is said of its moment.
fn log(said: impl Fn(f64) -> Said) -> (Vec<RecordedRequest>, Vec<RecordedCall>) {
    let moments = (0..6_000).map(|number| Duration::from_millis(1_000_000 + number * 10));
    moments
        .map(|came| {
            let request = RecordedRequest {
                came,
                tenant: "a".to_owned(),
                model: "m".to_owned(),
                tokens_max: 10,
                has_come_back: false,
                allowed: Duration::from_secs(60),
            };
            let said = said(came.as_secs_f64() - 1_000.0);
            let retry_after = (said == Said::TooMuch).then_some(Duration::from_secs(3));
            let took = Duration::from_millis(200);
            (request, RecordedCall { sent: came, took, model: "m".to_owned(), said, retry_after })
        })
        .unzip()
}

fn faults(said: impl Fn(f64) -> Said) -> Vec<Fault> {
    let (requests, calls) = log(said);
    Estimate::of(requests, calls).unwrap().scenario.faults
}

#[test]
fn an_outage_is_found_at_its_time() {
    let faults = faults(|at| if (20.0..32.5).contains(&at) { Said::Failure } else { Said::Answer });
    assert_eq!(faults.len(), 1, "{faults:?}");
    let fault = &faults[0];
    assert!((fault.from_seconds - 20.0).abs() < 0.02 && (fault.to_seconds - 32.5).abs() < 0.02, "{fault:?}");
    assert_eq!((fault.failure_rate, fault.throttled_rate), (1.0, 0.0));
}

#[test]
fn a_change_within_a_slot_of_a_long_log_is_one_change() {
    let (mut requests, mut calls) = log(|at| if (20.0..32.5).contains(&at) { Said::Failure } else { Said::Answer });
    // Sixty times as long, so that a slot has some twenty calls.
    requests.iter_mut().for_each(|one| one.came *= 60);
    calls.iter_mut().for_each(|call| call.sent *= 60);
    let faults = Estimate::of(requests, calls).unwrap().scenario.faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        (faults[0].from_seconds - 1_200.0).abs() < 1.0 && (faults[0].to_seconds - 1_950.0).abs() < 1.0,
        "{faults:?}"
    );
}

#[test]
fn a_partial_failure_within_an_outage_of_others_is_a_time_of_its_own() {
    let faults = faults(|at| match at {
        10.0..20.0 if (at * 100.0).round() % 2.0 == 0.0 => Said::Failure,
        30.0..35.0 => Said::Nothing,
        _ => Said::Answer,
    });
    let found: Vec<[f64; 4]> = faults
        .iter()
        .map(|fault| {
            [fault.from_seconds.round(), fault.to_seconds.round(), fault.failure_rate, fault.timeout_rate]
                .map(|figure| (figure * 100.0).round() / 100.0)
        })
        .collect();
    assert_eq!(found, [[10.0, 20.0, 0.5, 0.0], [30.0, 35.0, 0.0, 1.0]]);
}

#[test]
fn where_all_are_refused_the_wait_that_was_named_is_named() {
    let faults = faults(|at| if at >= 50.0 { Said::TooMuch } else { Said::Answer });
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((faults[0].throttled_rate, faults[0].retry_after_seconds), (1.0, Some(3.0)));
}

#[test]
fn a_limit_is_told_from_refusals_by_chance() {
    let (requests, mut calls) = log(|_| Said::Answer);
    // Eighty in each second, and of those the first.
    for (number, call) in calls.iter_mut().enumerate() {
        if number % 100 >= 80 {
            call.said = Said::TooMuch;
        }
    }
    let found = Estimate::of(requests, calls).unwrap().scenario.faults;
    let limits: Vec<f64> = found.iter().filter_map(|fault| fault.limit_per_second).collect();
    assert!(limits.iter().all(|limit| (limit - 80.0).abs() < 3.0) && !limits.is_empty(), "{found:?}");
    let mut random = crate::random::Random::new(1);
    let chances: Vec<bool> = (0..6_000).map(|_| random.chance(0.2)).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
    let by_chance = faults(|at| if chances[(at * 100.0).round() as usize] { Said::TooMuch } else { Said::Answer });
    assert!(by_chance.iter().all(|fault| fault.limit_per_second.is_none()), "{by_chance:?}");
    assert!((by_chance[0].throttled_rate - 0.2).abs() < 0.02, "{by_chance:?}");
}

#[test]
fn too_little_is_said_to_be_too_little_and_an_estimate_is_a_sound_scenario() {
    let (requests, calls) = log(|at| if at < 3.0 { Said::Overload } else { Said::Answer });
    let few = Estimate::of(requests[..10].to_vec(), calls.clone()).unwrap_err();
    assert_eq!(few, TooLittle::Requests(10));
    assert_eq!(Estimate::of(requests.clone(), Vec::new()).unwrap_err(), TooLittle::Calls);
    let estimate = Estimate::of(requests, calls).unwrap();
    assert_eq!(estimate.scenario.validate(), Ok(()));
    assert_eq!((estimate.caller_retries, estimate.begins), (0, Duration::from_secs(1_000)));
}

#[test]
fn callers_that_come_back_are_no_new_requests_and_are_known_to_retry() {
    let (mut requests, calls) = log(|_| Said::Answer);
    requests[7].has_come_back = true;
    let estimate = Estimate::of(requests, calls).unwrap();
    assert_eq!(estimate.caller_retries, Clients::SDK_RETRIES);
    assert_eq!(estimate.scenario.recorded.unwrap().arrivals.len(), 5_999);
}

#[test]
fn the_most_frequent_names_are_told_apart_and_all_others_are_one() {
    let all: Vec<String> = (0..20_u32).flat_map(|name| vec![format!("n{name}"); 30 - name as usize]).collect();
    let names = names(all.iter().map(String::as_str));
    assert_eq!(names.len(), Scenario::TENANTS_MAX);
    assert_eq!((place(&names, "n0"), place(&names, "n19")), (0, Scenario::TENANTS_MAX - 1));
}
