//! A set of event numbers as sorted ranges. Pure.
//!
//! Events usually leave the queue in order, so the set of those that left is one range.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// Half-open ranges, in order, neither empty nor touching.
    ranges: Vec<Range<u64>>,
}

impl Positions {
    /// The set of these numbers.
    pub fn of(numbers: &[u64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        let mut set = Self::default();
        for number in sorted {
            match set.ranges.last_mut() {
                Some(last) if last.end > number => {}
                Some(last) if last.end == number => last.end = number.saturating_add(1),
                _ => set.ranges.push(number..number.saturating_add(1)),
            }
        }
        set
    }

    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// How many numbers the set has.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()
    }

    pub fn contains(&self, number: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.end <= number);
        self.ranges.get(after).is_some_and(|range| range.contains(&number))
    }

    /// Adds the numbers of a range. Returns how many of them are new.
    pub fn add(&mut self, added: &Range<u64>) -> u64 {
        if added.is_empty() {
            return 0;
        }
        let before = self.count();
        // All ranges that overlap or touch the new one become one with it.
        let first = self.ranges.partition_point(|range| range.end < added.start);
        let last = self.ranges.partition_point(|range| range.start <= added.end);
        let mut merged = added.clone();
        for range in &self.ranges[first..last] {
            merged.start = merged.start.min(range.start);
            merged.end = merged.end.max(range.end);
        }
        self.ranges.splice(first..last, [merged]);
        self.count() - before
    }

    /// The first `count` numbers of `within` that the set does not have, as ranges.
    pub fn first_missing(&self, within: &Range<u64>, count: u64) -> Vec<Range<u64>> {
        let (mut missing, mut left, mut next) = (Vec::new(), count, within.start);
        let end = within.end..within.end;
        for range in self.ranges.iter().chain([&end]) {
            let gap_end = range.start.min(within.end).min(next.saturating_add(left));
            if gap_end > next {
                left -= gap_end - next;
                missing.push(next..gap_end);
            }
            next = next.max(range.end);
        }
        missing
    }

    /// True if the ranges are in order, neither empty nor touching.
    pub fn is_valid(&self) -> bool {
        let in_order = self.ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
        in_order && self.ranges.iter().all(|range| range.start < range.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_behave_like_a_set_of_numbers(
            ranges in proptest::collection::vec((0..40_u64, 0..6_u64), 0..12),
            count in 0..50_u32,
        ) {
            let (mut set, mut model) = (Positions::default(), BTreeSet::new());
            for (start, length) in ranges {
                let before = model.len();
                model.extend(start..start + length);
                let added = set.add(&(start..start + length));
                prop_assert_eq!(added, (model.len() - before) as u64);
                prop_assert!(set.is_valid());
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(&set, &Positions::of(&model.iter().copied().collect::<Vec<_>>()));
            for number in 0..50 {
                prop_assert_eq!(set.contains(number), model.contains(&number), "{}", number);
            }
            let missing: Vec<_> = set.first_missing(&(3..45), count.into()).into_iter().flatten().collect();
            let expected: Vec<_> =
                (3..45).filter(|n| !model.contains(n)).take(count as usize).collect();
            prop_assert_eq!(missing, expected);
        }
    }

    #[test]
    fn repeated_numbers_count_once() {
        assert_eq!(Positions::of(&[7, 5, 5, 6, 9]).ranges(), [5..8, 9..10]);
    }
}
