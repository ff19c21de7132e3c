//! What cannot be built.

use std::num::NonZeroU32;
use std::time::Duration;

use bulla_server::{
    Builder, Bulla, Concurrency, ConfigError, Cookies, Identity, Lifetimes, Limits, MemoryRegistry,
    MemoryStore, Openings, Rate, Rates, Ring, SystemRandom,
};

use crate::support::ORIGIN;

/// Built, or refused with such an error.
type Outcome = Result<(), Refusal>;
type Refusal = fn(&ConfigError) -> bool;

fn is(built: Result<Bulla, ConfigError>, wanted: Outcome) -> bool {
    match (built, wanted) {
        (Ok(_), Ok(())) => true,
        (Err(error), Err(wanted)) => wanted(&error),
        _ => false,
    }
}

#[test]
fn a_ring_that_would_run_out_of_names_is_refused() {
    let http_only = || Cookies::HttpOnly { readable: vec![] };
    let refused: Outcome = Err(|error| matches!(error, ConfigError::RingPeriod));
    for (period, cookies, outcome) in [
        (Duration::from_mins(1), Cookies::Off, Ok(())),
        (Duration::from_secs(59), Cookies::Off, refused),
        (Duration::ZERO, Cookies::Off, refused),
        (Duration::MAX, Cookies::Off, refused),
        // Bound cookies live for twelve hours.
        (Duration::from_secs(432), http_only(), Ok(())),
        (Duration::from_secs(431), http_only(), refused),
    ] {
        let built = Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .ring(Ring::ephemeral().with_period(period))
            .cookies(cookies)
            .build();
        assert!(is(built, outcome), "{period:?}");
    }
}

#[test]
fn what_no_request_could_meet_is_refused() {
    type Configure = fn(Builder) -> Builder;
    let refusals: [(Configure, Refusal); 11] = [
        (
            |b| b.origin("https://x.example/"),
            |e| matches!(e, ConfigError::Origin(_)),
        ),
        (
            |b| b.origin("http://bank.example"),
            |e| matches!(e, ConfigError::Origin(_)),
        ),
        (
            |b| b.origin(ORIGIN),
            |e| matches!(e, ConfigError::Origin(_)),
        ),
        (
            |b| b.allow_origin("*"),
            |e| matches!(e, ConfigError::AllowedOrigin(_)),
        ),
        (
            |b| b.prefix("bulla"),
            |e| matches!(e, ConfigError::Prefix(_)),
        ),
        (
            |b| b.prefix("/bulla/"),
            |e| matches!(e, ConfigError::Prefix(_)),
        ),
        (
            |b| b.prefix("/bulla?x"),
            |e| matches!(e, ConfigError::Prefix(_)),
        ),
        (
            |b| b.prefix("/a/../b"),
            |e| matches!(e, ConfigError::Prefix(_)),
        ),
        (|b| b.prefix(""), |e| matches!(e, ConfigError::Prefix(_))),
        (|b| b.unsigned(""), |e| matches!(e, ConfigError::Path(_))),
        (
            |b| b.unsigned("static/"),
            |e| matches!(e, ConfigError::Path(_)),
        ),
    ];
    let builder = || {
        Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
    };
    for (at, (configure, refusal)) in refusals.into_iter().enumerate() {
        assert!(is(configure(builder()).build(), Err(refusal)), "{at}");
    }
    assert!(
        builder()
            .origin("http://localhost")
            .unsigned("/")
            .build()
            .is_ok()
    );
}

/// What one node forgets, the ring of the others would go on with.
#[test]
fn a_ring_that_nodes_share_wants_a_store_that_they_share() {
    let folder = tempfile::tempdir().unwrap();
    let built = Bulla::builder()
        .origin(ORIGIN)
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
        .ring(Ring::in_folder(folder.path()).unwrap())
        .build();
    let refused: Outcome = Err(|error| matches!(error, ConfigError::RingOutreachesStore));
    assert!(is(built, refused));
}

#[test]
fn a_limit_on_sessions_wants_something_to_count_them_by() {
    let most = NonZeroU32::new(1).unwrap();
    let no_registry: Outcome = Err(|error| matches!(error, ConfigError::NoRegistry));
    for (concurrency, has_registry, outcome) in [
        (Concurrency::Unlimited, false, Ok(())),
        (Concurrency::AtMost(most), false, no_registry),
        (Concurrency::NewestWins(most), false, no_registry),
        (Concurrency::AtMost(most), true, Ok(())),
    ] {
        let mut builder = Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .concurrency(concurrency);
        if has_registry {
            builder = builder.registry(MemoryRegistry::new());
        }
        assert!(is(builder.build(), outcome), "{concurrency:?}");
    }
}

#[test]
fn lifetimes_that_nobody_means_are_refused() {
    let set: [fn(&mut Lifetimes, Duration); 4] = [
        |lifetimes, life| lifetimes.nonce = life,
        |lifetimes, life| lifetimes.ticket = life,
        |lifetimes, life| lifetimes.session = life,
        |lifetimes, life| lifetimes.carry_over = life,
    ];
    let longest = *Lifetimes::RANGE.end();
    let refused: Outcome = Err(|error| matches!(error, ConfigError::Lifetime(_)));
    for (life, outcome) in [
        (Duration::ZERO, refused),
        (Duration::from_millis(999), refused),
        (Duration::from_secs(1), Ok(())),
        (longest, Ok(())),
        (longest + Duration::from_nanos(1), refused),
        (Duration::from_secs(u64::from(u32::MAX) + 1), refused),
        (Duration::MAX, refused),
    ] {
        for (which, set) in set.iter().enumerate() {
            let mut lifetimes = Lifetimes::default();
            set(&mut lifetimes, life);
            let built = Bulla::builder()
                .origin(ORIGIN)
                .identity(Identity::generate(&SystemRandom).unwrap())
                .store(MemoryStore::new().unwrap())
                .ring(Ring::ephemeral().with_period(*Ring::PERIODS.end()))
                .lifetimes(lifetimes)
                .build();
            assert!(is(built, outcome), "{which} {life:?}");
        }
    }
}

/// Were it taken for no limit, nobody would notice.
#[test]
fn a_rate_that_is_none_is_refused() {
    let second = Duration::from_secs(1);
    let refused: Outcome = Err(|error| matches!(error, ConfigError::Rate(_)));
    for (rate, outcome) in [
        (Rate::new(1, second), Ok(())),
        (Rate::new(1, second * 3600 * 24), Ok(())),
        (Rate::new(0, second), refused),
        (Rate::new(1, Duration::ZERO), refused),
        (Rate::new(1, Duration::MAX), refused),
        (Rate::new(u32::MAX, Duration::from_nanos(1)), refused),
    ] {
        let set: [fn(Builder, Rate) -> Builder; 6] = [
            |builder, rate| {
                builder.rates(Rates {
                    session: Some(rate),
                    ..Rates::default()
                })
            },
            |builder, rate| {
                builder.rates(Rates {
                    device: Some(rate),
                    ..Rates::default()
                })
            },
            |builder, rate| {
                builder.rates(Rates {
                    subject: Some(rate),
                    ..Rates::default()
                })
            },
            |builder, rate| {
                builder.rates(Rates {
                    network: Some(rate),
                    ..Rates::default()
                })
            },
            |builder, rate| {
                builder.openings(Openings {
                    in_all: Some(rate),
                    ..Openings::default()
                })
            },
            |builder, rate| {
                builder.openings(Openings {
                    network: Some(rate),
                    ..Openings::default()
                })
            },
        ];
        for set in set {
            assert!(is(set(builder(), rate).build(), outcome), "{rate:?}");
        }
    }
}

#[test]
fn no_message_has_more_fields_than_there_is_room_for() {
    let refused: Outcome = Err(|error| matches!(error, ConfigError::Fields));
    for (max_fields, outcome) in [(10_000, Ok(())), (10_001, refused)] {
        let limits = Limits {
            max_fields,
            ..Limits::default()
        };
        assert!(is(builder().limits(limits).build(), outcome));
    }
}

fn builder() -> Builder {
    Bulla::builder()
        .origin(ORIGIN)
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
}
