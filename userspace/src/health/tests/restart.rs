//! A daemon that ends, and one that begins.

use super::*;

/// Ends, and begins anew this much later by the clock on the wall, in seconds.
fn restart(run: &Run, pause: f64, settings: &str) -> Run {
    let text = serde_json::to_string(&run.health.save(at(run.now))).unwrap();
    let mut health = Health::restore(serde_json::from_str(&text).unwrap());
    let saved_at = at(run.now).wall;
    let wall = match Duration::try_from_secs_f64(pause) {
        Ok(pause) => saved_at + pause,
        Err(_) => saved_at - Duration::from_secs_f64(-pause),
    };
    let uptime = Duration::from_secs(1);
    let turned = health.configure(&config(settings), Moment { wall, uptime });
    assert_eq!(turned, [], "a restart turns nobody");
    Run { health, now: 1.0 }
}

#[test]
fn restart_neither_fells_nor_admits_anybody() {
    let settings = "rise = 3\nfall = 2";
    let mut run = Run::with(settings);
    run.play(A, "+-");
    run.play(B, "--");
    let before = run.health.view();
    let mut run = restart(&run, 3.0, settings);
    assert_eq!(run.health.view(), before);
    assert_eq!(run.verdict(A), Verdict::Up);
    assert_eq!(run.standing(B).reason, "answer-timeout");
    assert_eq!(run.standing(B).changed_at, at(4.0).wall);
    assert_eq!(run.verdict("fd00:1::11"), Verdict::Unknown);
    assert_eq!(run.play(A, "-+--"), "uuud", "failures are counted anew");
    assert_eq!(run.play(B, "+++"), "ddu", "one that was down needs rise");
}

#[test]
fn restart_does_not_end_a_hold() {
    let mut run = Run::with("fall = 1");
    run.play(A, "+-+-+-");
    assert_eq!(run.standing(A).held_for, Some(Duration::from_secs(30)));
    let mut again = restart(&run, 10.0, "fall = 1");
    assert_eq!(again.standing(A).held_for, Some(Duration::from_secs(20)));
    assert_eq!(again.play(A, &"+".repeat(20)), "d".repeat(19) + "u");
    again.play(A, "-");
    assert_eq!(again.standing(A).held_for, Some(Duration::from_secs(60)));
    let later = restart(&run, 100.0, "fall = 1");
    assert_eq!(later.standing(A).held_for, None);
    let clock_set_back = restart(&run, -100_000.0, "fall = 1");
    let held_for = clock_set_back.standing(A).held_for.unwrap();
    assert!(held_for <= Duration::from_mins(5), "{held_for:?}");
}

#[test]
fn only_the_first_configuration_takes_over() {
    let mut run = Run::with("");
    run.play(A, "+");
    let mut run = restart(&run, 1.0, "port = 81");
    run.health.configure(&config(""), at(9.0));
    assert_eq!(run.verdict(A), Verdict::Unknown);
}
