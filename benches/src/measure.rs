//! Sampling in turn.

use std::time::Duration;

use crate::Outcome;

/// Operations that run before each sample and are not counted, so that every probe finds the caches
/// as it left them itself, not as its neighbour did.
const WARM_UP: usize = 2;

/// Something that can be measured again and again.
pub(crate) struct Probe {
    pub(crate) id: &'static str,
    /// Operations in one sample: enough of them that reading the clock does not count.
    batch: usize,
    operate: Box<dyn FnMut(usize) -> Outcome<Duration>>,
}

impl Probe {
    /// `operate` carries out so many operations and tells how long they took, preparations left out.
    /// It fails if one of them did not do what it is there for.
    pub(crate) fn new(
        id: &'static str,
        batch: usize,
        operate: impl FnMut(usize) -> Outcome<Duration> + 'static,
    ) -> Self {
        let operate = Box::new(operate);
        Self { id, batch, operate }
    }

    /// Carries out so many operations.
    pub(crate) fn run(&mut self, operations: usize) -> Outcome<Duration> {
        (self.operate)(operations).map_err(|error| format!("{}: {error}", self.id).into())
    }

    /// The time of one operation, in nanoseconds.
    fn sample(&mut self) -> Outcome<f64> {
        self.run(WARM_UP)?;
        let batch = u32::try_from(self.batch)?;
        Ok(self.run(self.batch)?.as_secs_f64() * 1e9 / f64::from(batch))
    }
}

/// Takes a sample of each probe in turn, so many times. Gives the medians, in nanoseconds.
pub(crate) fn medians(probes: &mut [Probe], rounds: usize) -> Outcome<Vec<(&'static str, f64)>> {
    let mut samples = vec![Vec::with_capacity(rounds); probes.len()];
    for _ in 0..rounds {
        for (probe, samples) in probes.iter_mut().zip(&mut samples) {
            samples.push(probe.sample()?);
        }
    }
    let ids = probes.iter().map(|probe| probe.id);
    Ok(ids.zip(samples.into_iter().map(median)).collect())
}

/// The middle value; NaN if there is none.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => samples[middle],
        _ => f64::midpoint(samples[middle - 1], samples[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!(median(Vec::new()).is_nan());
        for (samples, expected) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 1.0, 2.0], 2.0),
        ] {
            assert_eq!(median(samples).to_bits(), f64::to_bits(expected));
        }
    }
}
