//! The soak itself, for some seconds: it passes, and it is able to fail.

use std::future::pending;
use std::time::Duration;

use bulla_tests::soak::{Kind, Outcome, Run, Settings, Weakness, Wrong, counted, run};

fn settings(weakness: Weakness) -> Settings {
    Settings {
        program: env!("CARGO_BIN_EXE_soak").into(),
        seed: 20,
        // Nothing takes so long: a run is over after its faults, or when it has seen what it is about.
        length: Duration::from_mins(5),
        faults: None,
        until: None,
        fault: Duration::from_secs(1),
        quiet: Duration::from_secs(4),
        // However slow this machine is.
        grace: Duration::from_hours(1),
        clients: 8,
        nodes: 2,
        kinds: Vec::new(),
        network: false,
        weakness,
    }
}

/// What must not be, whatever else the machine does meanwhile: nothing here is about time.
const WRONG: [Wrong; 4] = [
    Wrong::AcceptedReplay,
    Wrong::Answer,
    Wrong::LostWrite,
    Wrong::AfterEnd,
];

fn how_often(run: &Run, wrong: Wrong) -> usize {
    counted(&run.violations)[&wrong]
}

#[tokio::test(flavor = "multi_thread")]
async fn with_faults_thrown_in_every_answer_is_right() -> Outcome {
    let kinds = vec![
        Kind::RedisLost,
        Kind::NodeKilled,
        Kind::ClockJump,
        Kind::ClientsCut,
        Kind::LinkDown,
    ];
    let run = run(
        Settings {
            faults: Some(kinds.len()),
            kinds,
            ..settings(Weakness::None)
        },
        pending(),
    )
    .await?;
    for wrong in WRONG {
        assert_eq!(how_often(&run, wrong), 0, "{:?}", run.violations);
    }
    assert!(run.faults.iter().all(|fault| fault.end.is_some()));
    let counts = &run.counts;
    for what in ["reads", "writes", "streams", "uploads", "logins", "logouts"] {
        assert!(counts.good.get(what) > Some(&0), "no {what}: {counts:?}");
    }
    assert!(counts.replays > 0 && counts.races > 0 && counts.after_end > 0);
    // They were felt.
    assert!(
        counts.refused.get("store_unavailable") > Some(&0),
        "{counts:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_the_nodes_leave_out_is_noticed() -> Outcome {
    for (weakness, wrong) in [
        (Weakness::Proofs, Wrong::AcceptedReplay),
        (Weakness::Ends, Wrong::AfterEnd),
        (Weakness::Writes, Wrong::LostWrite),
        (Weakness::Answers, Wrong::Answer),
    ] {
        let run = run(
            Settings {
                until: Some(wrong),
                ..settings(weakness)
            },
            pending(),
        )
        .await?;
        let is_seen = |wrong| how_often(&run, wrong) > 0;
        assert!(is_seen(wrong), "{weakness:?}");
        // A machine that is too slow for anything is refused what it asks, and no more.
        let others = WRONG.into_iter().filter(|other| *other != Wrong::Answer);
        for other in others.filter(|other| *other != wrong) {
            assert!(!is_seen(other), "{weakness:?}: {:?}", run.violations);
        }
    }
    Ok(())
}
