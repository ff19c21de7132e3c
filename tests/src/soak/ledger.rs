//! What was asked, what was answered, and what the nodes have carried out: each request at most once, and each that was
//! answered exactly once.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what has been answered may take to be found in a node's journal. It is written before the answer; this is
/// for whoever reads it.
const LATE: Duration = Duration::from_secs(5);

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A request was carried out a second time, or an opening that used up a ticket was answered a second time.
    AcceptedReplay,
    /// An answer was not what the request brings, or a refusal that nothing explains.
    Answer,
    /// A request was answered, and not carried out.
    LostWrite,
    /// A request of a session was carried out that had ended.
    AfterEnd,
    /// Service did not come back.
    NotBack,
    /// Memory grew.
    Memory,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AcceptedReplay,
        Self::Answer,
        Self::LostWrite,
        Self::AfterEnd,
        Self::NotBack,
        Self::Memory,
    ];

    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcceptedReplay => "accepted replays",
            Self::Answer => "wrong answers",
            Self::LostWrite => "lost accepted writes",
            Self::AfterEnd => "requests accepted after their session's end",
            Self::NotBack => "faults after which service did not come back",
            Self::Memory => "processes whose memory grew",
        }
    }
}

/// What is wrong, and when.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What it is.
    pub wrong: Wrong,
    /// When it was noticed, in seconds since the run began.
    pub at: f64,
    /// What exactly, and the fault in progress.
    pub what: String,
}

/// Everything that has been asked.
pub(super) struct Ledger {
    next: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    carried_out: Bits,
    count: u64,
    /// Answered, and not yet looked for.
    answered: VecDeque<(u64, Instant)>,
    /// Of sessions that have ended.
    forbidden: HashSet<u64>,
    journals: Vec<Journal>,
}

/// What one node has carried out, one line for each request.
struct Journal {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Ledger {
    pub(super) fn new(journals: Vec<PathBuf>) -> Self {
        let journals = journals.into_iter().map(|path| Journal {
            path,
            file: None,
            rest: Vec::new(),
        });
        Self {
            next: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                journals: journals.collect(),
                ..Inner::default()
            }),
        }
    }

    /// A number for one request.
    pub(super) fn issue(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn issued(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    pub(super) fn carried_out(&self) -> u64 {
        self.lock().count
    }

    /// It was answered as one that was carried out.
    pub(super) fn answered(&self, id: u64) {
        self.lock().answered.push_back((id, Instant::now()));
    }

    /// Its session has ended, and it was never sent before.
    pub(super) fn forbid(&self, id: u64) {
        self.lock().forbidden.insert(id);
    }

    /// Reads what the nodes have carried out since, and gives what is wrong. At the end of a run nothing is waited for.
    pub(super) fn compare(&self, is_last: bool) -> Vec<(Wrong, String)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut wrong = Vec::new();
        for (node, journal) in inner.journals.iter_mut().enumerate() {
            for line in journal.lines() {
                let Ok(id) = line.parse::<u64>() else {
                    wrong.push((Wrong::Answer, format!("node {node} has noted {line:?}")));
                    continue;
                };
                inner.count += 1;
                if inner.carried_out.set(id) {
                    wrong.push((
                        Wrong::AcceptedReplay,
                        format!("request {id} was carried out again, by node {node}"),
                    ));
                }
                if inner.forbidden.contains(&id) {
                    wrong.push((
                        Wrong::AfterEnd,
                        format!(
                            "request {id} was carried out after its session's end, by node {node}"
                        ),
                    ));
                }
            }
        }
        while let Some((id, since)) = inner.answered.front()
            && (is_last || since.elapsed() > LATE)
        {
            if !inner.carried_out.has(*id) {
                let what = format!("request {id} was answered and not carried out");
                wrong.push((Wrong::LostWrite, what));
            }
            inner.answered.pop_front();
        }
        wrong
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Whole lines that have been added. A node that does not run yet has none.
    fn lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            // What could not be read now is read the next time.
            let _ = file.read_to_end(&mut self.rest);
        }
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n');
        let rest = self.rest.split_off(whole.map_or(0, |end| end + 1));
        let lines = std::mem::replace(&mut self.rest, rest);
        let lines = String::from_utf8_lossy(&lines);
        lines.lines().map(str::to_owned).collect()
    }
}

/// A set of numbers that begin at 0.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Puts one in, and says whether it was there.
    fn set(&mut self, id: u64) -> bool {
        let (word, bit) = Self::place(id);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was
    }

    fn has(&self, id: u64) -> bool {
        let (word, bit) = Self::place(id);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(id: u64) -> (usize, u64) {
        (usize::try_from(id / 64).unwrap_or_default(), 1 << (id % 64))
    }
}

/// What is wrong, kept and told at once.
pub(super) struct Violations {
    seed: u64,
    all: Mutex<Vec<Violation>>,
}

impl Violations {
    /// Of one kind so many are told: the first say it all.
    const TOLD: usize = 20;

    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            all: Mutex::default(),
        }
    }

    pub(super) fn add(&self, wrong: Wrong, at: f64, what: String) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.iter().filter(|known| known.wrong == wrong).count();
        if before < Self::TOLD {
            let name = wrong.name();
            println!(
                "soak: {at:7.1} s  WRONG ({name}), seed {}: {what}",
                self.seed
            );
        }
        all.push(Violation { wrong, at, what });
    }

    pub(super) fn all(&self) -> Vec<Violation> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

/// How many there are of each.
pub fn counted(violations: &[Violation]) -> BTreeMap<Wrong, usize> {
    let mut counts: BTreeMap<_, _> = Wrong::ALL.into_iter().map(|wrong| (wrong, 0)).collect();
    for violation in violations {
        *counts.entry(violation.wrong).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_journals_say_is_held_against_what_was_answered() {
        use Wrong::{AcceptedReplay, AfterEnd, Answer, LostWrite};

        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..3)
            .map(|node| folder.path().join(node.to_string()))
            .collect();
        let ledger = Ledger::new(paths.clone());
        let ids: Vec<u64> = (0..70).map(|_| ledger.issue()).collect();
        ledger.answered(ids[1]);
        ledger.answered(ids[69]);
        ledger.forbid(ids[3]);
        std::fs::write(&paths[0], "1\n2\n69").unwrap();
        assert_eq!(ledger.compare(false), []);
        assert_eq!(ledger.carried_out(), 2);
        std::fs::write(&paths[1], "2\n3\nx\n").unwrap();
        let wrong: Vec<_> = ledger
            .compare(true)
            .into_iter()
            .map(|(wrong, _)| wrong)
            .collect();
        assert_eq!(wrong, [AcceptedReplay, AfterEnd, Answer, LostWrite]);
        assert_eq!(ledger.compare(true), []);
    }
}
