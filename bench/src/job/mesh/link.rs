//! The queues, each behind the same three steps: make, send a batch, receive a batch.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use twintier::limits::MESH_RING_SLOTS;
use twintier::mesh::ring;

/// Slots of every queue: those of the mesh.
pub const SLOTS: usize = MESH_RING_SLOTS;

/// A message as large as what workers send to each other.
pub type Carried = [u64; size_of::<twintier::worker::Message>() / size_of::<u64>()];

/// What is carried: a number, and words that make up the size.
pub trait Message: Send + 'static {
    fn numbered(number: u64) -> Self;
    fn number(&self) -> u64;
}

impl<const WORDS: usize> Message for [u64; WORDS] {
    #[inline]
    fn numbered(number: u64) -> Self {
        [number; WORDS]
    }

    #[inline]
    fn number(&self) -> u64 {
        // The last word: all of the message has to come.
        self[WORDS - 1]
    }
}

/// One queue between two threads.
pub trait Link {
    type Producer<M: Message>: Send;
    type Consumer<M: Message>: Send;

    fn make<M: Message>() -> (Self::Producer<M>, Self::Consumer<M>);

    /// Sends at most `count` messages, numbered from `next` on, as one batch; how many there was room for.
    fn send<M: Message>(producer: &mut Self::Producer<M>, next: u64, count: usize) -> usize;

    /// Takes at most `count` messages as one batch; how many there were.
    fn receive<M: Message>(consumer: &mut Self::Consumer<M>, count: usize, each: impl FnMut(M)) -> usize;
}

/// [`twintier::mesh::ring`].
pub struct OursLink;

impl Link for OursLink {
    type Producer<M: Message> = ring::Producer<M>;
    type Consumer<M: Message> = ring::Consumer<M>;

    fn make<M: Message>() -> (ring::Producer<M>, ring::Consumer<M>) {
        ring::ring(SLOTS)
    }

    #[inline]
    fn send<M: Message>(producer: &mut ring::Producer<M>, next: u64, count: usize) -> usize {
        if count == 1 {
            return usize::from(producer.push(M::numbered(next)).is_ok());
        }
        let mut number = next;
        let messages = (0..count).map(|_| {
            number += 1;
            M::numbered(number - 1)
        });
        let sent = producer.stage_all(messages);
        producer.publish();
        sent
    }

    #[inline]
    fn receive<M: Message>(consumer: &mut ring::Consumer<M>, count: usize, mut each: impl FnMut(M)) -> usize {
        if count == 1 {
            let received = consumer.pop().map_or(0, |message| {
                each(message);
                1
            });
            consumer.release();
            return received;
        }
        consumer.drain(count, each)
    }
}

/// `rtrb`, with its chunks for batches.
pub struct RtrbLink;

impl Link for RtrbLink {
    type Producer<M: Message> = rtrb::Producer<M>;
    type Consumer<M: Message> = rtrb::Consumer<M>;

    fn make<M: Message>() -> (rtrb::Producer<M>, rtrb::Consumer<M>) {
        rtrb::RingBuffer::new(SLOTS)
    }

    #[inline]
    fn send<M: Message>(producer: &mut rtrb::Producer<M>, next: u64, count: usize) -> usize {
        if count == 1 {
            return usize::from(producer.push(M::numbered(next)).is_ok());
        }
        let fill = |chunk: rtrb::chunks::WriteChunkUninit<'_, M>| chunk.fill_from_iter((next..).map(M::numbered));
        match producer.write_chunk_uninit(count) {
            Ok(chunk) => fill(chunk),
            Err(rtrb::chunks::ChunkError::TooFewSlots(0)) => 0,
            Err(rtrb::chunks::ChunkError::TooFewSlots(slots)) => producer.write_chunk_uninit(slots).map_or(0, fill),
        }
    }

    #[inline]
    fn receive<M: Message>(consumer: &mut rtrb::Consumer<M>, count: usize, mut each: impl FnMut(M)) -> usize {
        if count == 1 {
            return consumer.pop().map_or(0, |message| {
                each(message);
                1
            });
        }
        let mut take = |chunk: rtrb::chunks::ReadChunk<'_, M>| {
            let received = chunk.len();
            chunk.into_iter().for_each(&mut each);
            received
        };
        match consumer.read_chunk(count) {
            Ok(chunk) => take(chunk),
            Err(rtrb::chunks::ChunkError::TooFewSlots(0)) => 0,
            Err(rtrb::chunks::ChunkError::TooFewSlots(slots)) => consumer.read_chunk(slots).map_or(0, take),
        }
    }
}

/// `crossbeam::queue::ArrayQueue`: a batch is so many pushes or pops.
pub struct ArrayQueueLink;

impl Link for ArrayQueueLink {
    type Producer<M: Message> = Arc<ArrayQueue<M>>;
    type Consumer<M: Message> = Arc<ArrayQueue<M>>;

    fn make<M: Message>() -> (Arc<ArrayQueue<M>>, Arc<ArrayQueue<M>>) {
        let queue = Arc::new(ArrayQueue::new(SLOTS));
        (Arc::clone(&queue), queue)
    }

    #[inline]
    fn send<M: Message>(producer: &mut Arc<ArrayQueue<M>>, next: u64, count: usize) -> usize {
        let mut sent = 0;
        for number in (next..).take(count) {
            if producer.push(M::numbered(number)).is_err() {
                break;
            }
            sent += 1;
        }
        sent
    }

    #[inline]
    fn receive<M: Message>(consumer: &mut Arc<ArrayQueue<M>>, count: usize, mut each: impl FnMut(M)) -> usize {
        let mut received = 0;
        while received < count {
            let Some(message) = consumer.pop() else { break };
            each(message);
            received += 1;
        }
        received
    }
}
