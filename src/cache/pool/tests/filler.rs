//! What a filler writes, and what two of them do to one another.

use super::*;

#[test]
fn bytes_come_back_as_they_came_and_the_tail_is_zero() {
    let pool = pool_of(4);
    let (size, pages) = (10_000, Pages::of_file(10_000));
    // Fill the memory with other bytes first: padding must not rest on fresh memory.
    hold(&pool, Inode(1), extent(0), Class::Demand, false);
    pool.forget_file(Inode(1));
    let reservation = pool.reserve(FILE, pages, Class::Demand, false).unwrap();
    let mut filler = reservation.filler(pages, size);
    let mut arrived = Vec::new();
    for bytes in body(FILE, pages, size).chunks(3000) {
        filler.fill(bytes, |pages| arrived.push(pages));
    }
    assert_eq!(arrived, [Pages::new(0, 1), Pages::new(1, 2), Pages::new(2, 3)]);
    assert_eq!((filler.position(), filler.skipped_bytes()), (10_000, 0));
    let pinned = pool.pinned(FILE, pages).unwrap();
    assert_eq!(pinned[..10_000], body(FILE, pages, size));
    assert!(pinned[10_000..].iter().all(|&byte| byte == 0) && pinned.len() == 3 * 4096);
    assert_eq!((pinned.pages(), pinned.file()), (pages, FILE));
    assert!(pool.pinned(FILE, Pages::new(0, 4)).is_none() && pool.pinned(Inode(8), pages).is_none());
    assert_eq!(pool.missing(FILE, Pages::new(0, 600)), [Pages::new(3, 600)]);
    let mut into = vec![1; 9_000];
    assert!(pool.copy(FILE, pages, &mut into));
    assert_eq!(into, body(FILE, pages, size)[..9_000]);
    assert!(!pool.copy(FILE, Pages::new(0, 4), &mut into));
    assert_eq!(reservation.bytes_if_held(pages).unwrap()[..], pinned[..]);
}

#[test]
fn what_is_held_back_is_seen_all_at_once_or_never() {
    let pool = pool_of(4);
    let pages = Pages::new(0, 40);
    let reservation = pool.reserve(FILE, pages, Class::Demand, false).unwrap();
    let bytes = body(FILE, pages, SIZE_BYTES);
    for publish in [false, true] {
        let mut filler = reservation.filler(pages, SIZE_BYTES);
        filler.hold_back();
        bytes.chunks(10_000).for_each(|bytes| filler.fill(bytes, |pages| panic!("{pages:?} seen too early")));
        assert_eq!((filler.position(), pool.missing(FILE, pages)), (40 * 4096, vec![pages]));
        let mut arrived = Vec::new();
        if publish {
            filler.publish(|pages| arrived.push(pages));
            assert_eq!(
                arrived.iter().flat_map(|pages| pages.iter()).collect::<Vec<_>>(),
                pages.iter().collect::<Vec<_>>()
            );
        }
    }
    // What the first one gave up was free for the second.
    let mut into = vec![0; bytes.len()];
    assert!(pool.copy(FILE, pages, &mut into) && into == bytes);
}

#[test]
fn of_two_fillers_one_writes_a_page_and_what_one_gives_up_the_other_may_have() {
    let pool = pool_of(4);
    let pages = Pages::new(0, 4);
    let reservation = pool.reserve(FILE, pages, Class::Demand, false).unwrap();
    let bytes = body(FILE, pages, SIZE_BYTES);
    let (mut slow, mut fast) = (reservation.filler(pages, SIZE_BYTES), reservation.filler(pages, SIZE_BYTES));
    let mut arrived = Vec::new();
    slow.fill(&bytes[..100], |_| panic!("100 bytes are no page"));
    fast.fill(&bytes, |pages| arrived.push(pages));
    assert_eq!(arrived, [Pages::new(1, 4)]);
    assert_eq!(fast.skipped_bytes(), 4096);
    slow.fill(&bytes[100..5000], |pages| arrived.push(pages));
    assert_eq!(arrived, [Pages::new(1, 4), Pages::new(0, 1)]);
    assert_eq!(slow.skipped_bytes(), 5000 - 4096);
    assert_eq!(pool.pinned(FILE, pages).unwrap()[..], bytes);

    let pages = Pages::new(4, 5);
    let reservation = pool.reserve(FILE, pages, Class::Demand, false).unwrap();
    let mut dies = reservation.filler(pages, SIZE_BYTES);
    dies.fill(&[9; 4095], |_| panic!("not whole"));
    drop(dies);
    assert_eq!(fill(&reservation, pages), [pages]);
    assert_eq!(pool.pinned(FILE, pages).unwrap()[..], body(FILE, pages, SIZE_BYTES));
}

#[test]
fn a_page_that_was_set_aside_goes_on_or_is_brought_by_another() {
    let pool = pool_of(4);
    let pages = Pages::new(0, 4);
    let reservation = pool.reserve(FILE, pages, Class::Demand, false).unwrap();
    let bytes = body(FILE, pages, SIZE_BYTES);
    let (mut silent, mut other) = (reservation.filler(pages, SIZE_BYTES), reservation.filler(pages, SIZE_BYTES));
    // Alone it loses nothing by that, in the middle of a page and between two, once and again.
    let mut arrived = Vec::new();
    for part in [&bytes[..100], &bytes[100..3000], &bytes[3000..4096], &bytes[4096..5000]] {
        silent.fill(part, |pages| arrived.push(pages));
        silent.set_aside();
        silent.set_aside();
    }
    assert_eq!((&arrived[..], silent.skipped_bytes()), (&[Pages::new(0, 1)][..], 0));
    assert_eq!(pool.pinned(FILE, Pages::new(0, 1)).unwrap()[..], bytes[..4096]);
    // The other has all that is not here, and what comes of it later is let go.
    other.fill(&bytes, |pages| arrived.push(pages));
    assert_eq!((&arrived[1..], other.skipped_bytes()), (&[Pages::new(1, 4)][..], 4096));
    silent.fill(&bytes[5000..9000], |pages| panic!("{pages:?} were here"));
    assert_eq!(silent.skipped_bytes(), 9000 - 4096);
    assert_eq!(pool.pinned(FILE, pages).unwrap()[..], bytes);
}

#[test]
fn a_whole_file_body_fills_what_is_reserved_of_it() {
    let pool = pool_of(4);
    let (size, all) = (100 * 4096 - 7, Pages::new(0, 100));
    let reservation = pool.reserve(FILE, Pages::new(90, 100), Class::Demand, false).unwrap();
    let mut filler = reservation.filler(all, size);
    let mut arrived = Vec::new();
    body(FILE, all, size).chunks(16_000).for_each(|bytes| filler.fill(bytes, |pages| arrived.push(pages)));
    filler.fill(b"more than the file has", |_| panic!("nothing is behind the end"));
    assert_eq!((arrived[0].start, arrived[arrived.len() - 1].end), (90, 100));
    assert_eq!(filler.skipped_bytes(), 90 * 4096 + 22);
    assert_eq!(pool.missing(FILE, all), [Pages::new(0, 90)]);
}

#[test]
fn a_disk_read_publishes_what_is_right_and_gives_back_the_rest() {
    let pool = pool_of(4);
    let (size, pages) = (5 * 4096 + 10, Pages::new(0, 6));
    let reservation = pool.reserve(FILE, pages, Class::Demand, false).unwrap();
    let mut filler = reservation.filler(pages, size);
    let failed = filler.fill_with(pages, |_, _| Err(io::Error::other("checksum")), |_| panic!("nothing is right"));
    assert!(failed.is_err());
    let bytes = body(FILE, pages, size);
    let read = |span: Pages, into: &mut [u8], length: usize| {
        into.fill(0xEE);
        let from = &bytes[(span.start * 4096) as usize..];
        let length = length.min(from.len());
        into[..length].copy_from_slice(&from[..length]);
        Ok(length)
    };
    let mut arrived = Vec::new();
    filler.fill_with(pages, |span, into| read(span, into, 9000), |pages| arrived.push(pages)).unwrap();
    assert_eq!(arrived, [Pages::new(0, 2)]);
    filler.fill_with(pages, |span, into| read(span, into, 1 << 20), |pages| arrived.push(pages)).unwrap();
    assert_eq!(arrived, [Pages::new(0, 2), Pages::new(2, 6)]);
    let pinned = pool.pinned(FILE, pages).unwrap();
    assert_eq!(pinned[..bytes.len()], bytes);
    assert!(pinned[bytes.len()..].iter().all(|&byte| byte == 0));
}
