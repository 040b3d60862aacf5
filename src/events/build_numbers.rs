//! The numbers of the builds that were seen. Pure.

use serde::{Deserialize, Serialize};

/// The numbers N of the span ids `build:N` that were seen, as ascending ranges with gaps between
/// them. Tilt numbers the builds of a session over all resources, from 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildNumbers(Vec<(u64, u64)>);

impl BuildNumbers {
    /// Adds the number in this span id, if it has one.
    pub fn insert(&mut self, span_id: &str) {
        let Some(number) = number(span_id) else { return };
        let index = self.0.partition_point(|(_, last)| *last + 1 < number);
        match self.0.get_mut(index) {
            Some((first, last)) if number + 1 >= *first => {
                *first = number.min(*first);
                *last = number.max(*last);
            }
            _ => self.0.insert(index, (number, number)),
        }
        if let [(_, last), (next, next_last), ..] = self.0[index..]
            && last + 1 == next
        {
            self.0[index].1 = next_last;
            self.0.remove(index + 1);
        }
    }

    /// True if a later number was seen, but not this one.
    pub fn is_missing(&self, span_id: &str) -> bool {
        let last = self.0.last().map_or(0, |(_, last)| *last);
        let was_seen =
            |number: u64| self.0.iter().any(|(first, last)| (*first..=*last).contains(&number));
        number(span_id).is_some_and(|number| number < last && !was_seen(number))
    }

    /// Counts the numbers below the last one that were not seen.
    pub fn missing(&self) -> u64 {
        let seen: u64 = self.0.iter().map(|(first, last)| last - first + 1).sum();
        self.0.last().map_or(0, |(_, last)| last - seen)
    }
}

/// The number of a build. Live updates and Tiltfile loads are numbered apart or not at all.
fn number(span_id: &str) -> Option<u64> {
    let number = span_id.strip_prefix("build:")?.parse::<u32>().ok()?;
    (number > 0).then_some(number.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn missing_builds_are_the_gaps_in_the_numbers(seen in proptest::collection::vec(1u64..40, 0..60)) {
            let mut numbers = BuildNumbers::default();
            for number in &seen {
                numbers.insert(&format!("build:{number}"));
            }
            let distinct: BTreeSet<_> = seen.iter().copied().collect();
            let expected = distinct.last().map_or(0, |last| last - distinct.len() as u64);
            prop_assert_eq!(numbers.missing(), expected);
            prop_assert!(numbers.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", numbers);
        }
    }

    #[test]
    fn only_build_numbers_count() {
        let mut numbers = BuildNumbers::default();
        for span in ["tiltfile:(Tiltfile):9", "liveupdate:web:web", "build:", "build:0", "build:x"]
        {
            numbers.insert(span);
        }
        numbers.insert(&format!("build:{}", u64::MAX));
        assert_eq!(numbers.0, []);
        numbers.insert(&format!("build:{}", u32::MAX));
        assert_eq!(numbers.missing(), u64::from(u32::MAX) - 1);
    }
}
