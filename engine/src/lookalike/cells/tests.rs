use super::*;
use crate::lookalike::naive::copies;
use crate::lookalike::quantise::quantise;
use crate::lookalike::random::Random;
use crate::lookalike::vector::Metric;

/// Quantised vectors, with their slots: every third one, so that they are in several chunks.
struct Vectors {
    dimension: usize,
    slots: Vec<Slot>,
    codes: Vec<u8>,
    scales: Vec<Scale>,
}

impl Vectors {
    fn new(vectors: &[Vec<f32>]) -> Vectors {
        let mut codes = Vec::new();
        let scales = vectors.iter().map(|vector| quantise(vector, &mut codes)).collect();
        Vectors {
            dimension: vectors[0].len(),
            slots: (0..vectors.len() as u32).map(|at| at * 3).collect(),
            codes,
            scales,
        }
    }

    fn trained(&self, metric: Metric) -> Centres {
        let count = self.scales.len() as u64;
        Centres::train(metric, self.dimension, count, &self.codes, &self.scales).expect("there are vectors")
    }

    /// With copies of what is scanned.
    fn sorted(&self, centres: &Centres) -> (Made, Vec<u8>) {
        let mut sorter = Sorter::new(centres);
        let mut from = 0;
        for slots in self.slots.chunk_by(|a, b| a >> 16 == b >> 16) {
            let rows = from..from + slots.len();
            from = rows.end;
            let codes: Vec<&[u8]> =
                self.codes.chunks_exact(self.dimension).skip(rows.start).take(slots.len()).collect();
            sorter.add(slots.iter().copied(), &codes, &self.scales[rows]);
        }
        let made = sorter.finish();
        let copies = copies(&made, self.dimension, &self.scales, &self.codes);
        (made, copies)
    }

    /// Whether these are their cells.
    fn are_in(&self, cells: &Cells<'_>) -> bool {
        cells.is_partition(self.slots.iter().copied(), |chunk, row| {
            let first = self.slots.partition_point(|slot| slot >> 16 < u32::from(chunk));
            let at = first + usize::from(row);
            Some((&self.scales.get(at)?[..], self.codes.get(at * self.dimension..(at + 1) * self.dimension)?))
        })
    }
}

fn view<'a>(centres: &'a Centres, (made, copies): &'a (Made, Vec<u8>), rows: u64) -> Option<Cells<'a>> {
    Cells::new(centres.view(), &made.ends, &made.members, copies, rows)
}

#[test]
fn neighbours_share_a_cell() {
    let (dimension, clusters, count, mut random) = (8, 20, 30_000, Random::new(3));
    let mut number = |size: f64| ((random.unit() - 0.5) * size) as f32;
    let middles: Vec<Vec<f32>> = (0..clusters).map(|_| (0..dimension).map(|_| number(2.0)).collect()).collect();
    let vectors: Vec<Vec<f32>> =
        (0..count).map(|at| middles[at % clusters].iter().map(|middle| middle + number(0.05)).collect()).collect();
    let vectors = Vectors::new(&vectors);
    for metric in Metric::ALL {
        let centres = vectors.trained(metric);
        // Codes cannot tell all vectors of so narrow clusters apart, so many centres have nobody, and are left out.
        assert!((clusters..=720).contains(&centres.count()), "{}", centres.count());
        let made = vectors.sorted(&centres);
        let cells = view(&centres, &made, count as u64).expect("whole");
        assert!(vectors.are_in(&cells));
        assert!(!cells.is_partition(vectors.slots.iter().map(|slot| slot + 1), |_, _| unreachable!("no slot fits")));
        let mut alone = 0;
        for cell in 0..centres.count() as u32 {
            let members: Vec<Member> = cells.members(cell).iter().map(|(_, member)| member).collect();
            assert!(members.is_sorted_by_key(|member| member.slot));
            let cluster = |member: &Member| (member.slot / 3) as usize % clusters;
            alone += members.iter().filter(|member| cluster(member) != cluster(&members[0])).count();
        }
        assert!(alone * 100 < count, "{metric:?}: {alone} are in cells of others");
        // By chance alone nothing is made.
        assert_eq!((centres.id(), &made), (vectors.trained(metric).id(), &vectors.sorted(&centres)));
        assert!(centres.view().has_its_id());
        let copied = Centres::copied(metric, centres.view(), centres.trained_on());
        assert_eq!(vectors.sorted(&copied), made);
    }
}

/// Found by groups is nearly always what a look at all centres finds.
#[test]
fn the_nearest_of_many_centres_is_found() {
    let (dimension, count, mut random) = (6, 40_000, Random::new(8));
    let vectors: Vec<Vec<f32>> =
        (0..count).map(|_| (0..dimension).map(|_| (random.unit() - 0.3) as f32).collect()).collect();
    let quantised = Vectors::new(&vectors);
    for metric in Metric::ALL {
        let centres = quantised.trained(metric);
        let found = centres.nearest(&quantised.codes, &quantised.scales);
        let all = centres.view().numbers(metric);
        let nearness = |vector: &[f32], centre: &[f32]| {
            let product: f32 = vector.iter().zip(centre).map(|(a, b)| a * b).sum();
            let square: f32 = centre.iter().map(|number| number * number).sum();
            if metric == Metric::Cosine { product / square.sqrt() } else { product - square / 2.0 }
        };
        let (mut same, mut of) = (0, 0);
        for (vector, found) in vectors.iter().zip(&found).step_by(40) {
            let best = all.iter().map(|centre| nearness(vector, centre)).fold(f32::NEG_INFINITY, f32::max);
            let got = nearness(vector, &all[*found as usize]);
            // Codes are a byte, so of two that are about as near either may be found.
            same += usize::from(got >= best - 0.004 * best.abs().max(1.0));
            of += 1;
        }
        assert!(same * 100 >= of * 95, "{metric:?}: {same} of {of}");
    }
}

#[test]
fn damaged_cells_are_none() {
    let vectors: Vec<Vec<f32>> = (0..4_096).map(|at| vec![at as f32, 1.0]).collect();
    let vectors = Vectors::new(&vectors);
    let centres = vectors.trained(Metric::Dot);
    let good = vectors.sorted(&centres);
    let is_whole = |made: &(Made, Vec<u8>)| vectors.are_in(&view(&centres, made, 4_096).expect("as many"));
    assert!(is_whole(&good));
    assert!(view(&centres, &good, 4_095).is_none());
    let mut damaged = good.clone();
    let last = damaged.0.ends.len() - END_BYTES;
    damaged.0.ends[last..].copy_from_slice(&4_097_u32.to_le_bytes());
    assert!(view(&centres, &damaged, 4_096).is_none());
    damaged = good.clone();
    damaged.0.ends.truncate(last);
    assert!(view(&centres, &damaged, 4_096).is_none());
    for at in [0, 4] {
        damaged = good.clone();
        damaged.0.members[at] ^= 1;
        assert!(!is_whole(&damaged), "byte {at}");
    }
    for at in [0, SCALE_BYTES] {
        damaged = good.clone();
        damaged.1[at] ^= 1;
        assert!(!is_whole(&damaged), "byte {at} of the copies");
    }
    damaged.1.pop();
    assert!(view(&centres, &damaged, 4_096).is_none());
    damaged = good.clone();
    damaged.0.ends[..4].copy_from_slice(&5_000_u32.to_le_bytes());
    assert!(!is_whole(&damaged));
    let cells = view(&centres, &damaged, 4_096).expect("as many");
    assert_eq!((0..2).map(|cell| cells.members(cell).iter().count()).sum::<usize>(), 0);
    assert_eq!(cells.members(u32::MAX).iter().count(), 0);
    let bytes = centres.bytes();
    assert!(CentresView::new(2, centres.count(), 1, bytes).is_some_and(|view| !view.has_its_id()));
    assert!(CentresView::new(3, centres.count(), 1, bytes).is_none() && CentresView::new(2, 0, 1, &[]).is_none());
}

#[test]
fn equal_vectors_and_zeros_have_cells() {
    for vector in [vec![0.0, 0.0], vec![3.0, 4.0]] {
        let vectors = Vectors::new(&vec![vector; 5_000]);
        let centres = vectors.trained(Metric::L2);
        let made = vectors.sorted(&centres);
        let cells = view(&centres, &made, 5_000).expect("whole");
        assert!(vectors.are_in(&cells));
        assert!((0..centres.count()).all(|cell| centres.view().spread(cell) < 0.01));
    }
    assert!(Centres::train(Metric::L2, 2, 0, &[], &[]).is_none());
}

/// A row whose numbers are none poisons the mean of whoever is with it, and no more.
#[test]
fn damaged_numbers_leave_no_centres_or_others() {
    let mut alike = Vectors::new(&vec![vec![0.0, 0.0]; 5_000]);
    alike.scales[7][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(
        Centres::train(Metric::L2, 2, 5_000, &alike.codes, &alike.scales).is_none_or(|centres| centres.count() < 3)
    );
    let mut many = Vectors::new(&(0..40_000).map(|at| vec![(at % 200) as f32, (at / 200) as f32]).collect::<Vec<_>>());
    many.scales[7][..8].copy_from_slice(&[0xff; 8]);
    let centres = many.trained(Metric::Dot);
    let made = many.sorted(&centres);
    assert!(view(&centres, &made, 40_000).is_some_and(|cells| many.are_in(&cells)));
}

/// Nine of ten have the vector that was given to whoever had none.
#[test]
fn equal_vectors_take_no_centres_from_others() {
    let mut random = Random::new(5);
    let mut vector = |at: usize| match at % 10 {
        0 => (0..8).map(|_| random.unit() as f32).collect(),
        _ => vec![0.5; 8],
    };
    let vectors = Vectors::new(&(0..60_000).map(&mut vector).collect::<Vec<_>>());
    let centres = vectors.trained(Metric::L2);
    let made = vectors.sorted(&centres);
    let cells = view(&centres, &made, 60_000).expect("whole");
    let sizes: Vec<usize> = (0..centres.count() as u32).map(|cell| cells.members(cell).iter().count()).collect();
    assert!(sizes.iter().filter(|size| **size > 0).count() > 500, "{} cells", sizes.len());
}

#[test]
fn centres_grow_with_the_root_of_the_vectors() {
    assert_eq!(Centres::wanted(64, 1 << 20), 4_096);
    assert_eq!(Centres::wanted(64, 100_000_000), 40_000);
    // A sample of long vectors fits into memory.
    assert_eq!(Centres::wanted(4_096, u64::MAX), 4_096);
    assert_eq!(Centres::sample_size(64, 1 << 20), 65_536);
    assert!(Centres::is_outgrown(0, 1) && Centres::is_outgrown(100, 400) && !Centres::is_outgrown(100, 399));
}
