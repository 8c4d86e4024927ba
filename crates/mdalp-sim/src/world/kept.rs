//! What must hold of what is stored: acknowledged means kept, and what is handed out is whole.
//!
//! Numbers 31 to 35, as [`super::checks`] has those before.

use super::checks::Truth;
use super::keeping::Seen;
use super::store::Key;
use crate::payload;
use mdalp_proto::layout::Layout;
use mdalp_proto::wire::Statement;
use mdalp_store::Damage;

impl Truth {
    /// 31: what was acknowledged goes only by the operator's retention, or as damage that is reported.
    pub(crate) fn i31_kept(&mut self, ok: bool, tid: u64) {
        self.check(ok, 31, || format!("{tid} is released before its time"));
    }

    /// 31: and what has rotted is not handed out.
    pub(crate) fn i31_no_wrong_bytes(&mut self, same: bool, key: Key) {
        self.check(same, 31, || format!("{}/{} is read with other bytes", key.0, key.1));
    }

    /// 31: what is gone is in a place that is reported.
    pub(crate) fn i31_damage_is_named(&mut self, ok: bool, key: Key, damage: &[Damage]) {
        self.check(ok, 31, || format!("{}/{} is gone, and named is {damage:?}", key.0, key.1));
    }

    /// 31: and all damage is named, after one look at everything.
    pub(crate) fn i31_scrubbing_finds_all(&mut self, unseen: Option<Damage>) {
        self.check(unseen.is_none(), 31, || format!("scrubbing does not find {unseen:?}"));
    }

    /// What the client of `tid` states, if it is one of ours and damage cannot pass unnoticed.
    fn stated(&mut self, tid: u64) -> Option<Statement> {
        let tainted = self.tainted;
        let client = self.clients.iter_mut().find(|client| client.tid == Some(tid));
        let client = client.filter(|_| !tainted)?;
        let layout = client.layout.as_ref()?;
        let (chunks, bytes, seed) = (layout.chunks(), layout.bytes(), client.payload_seed);
        let blake3 = *client.digest.get_or_insert_with(|| payload::digest(seed, bytes));
        Some(Statement { chunks, bytes, blake3 })
    }

    /// 32: what is on record of the whole is what its sender states.
    pub(crate) fn i32_on_record(&mut self, tid: u64, statement: &Statement) {
        let stated = self.stated(tid);
        self.check(stated.is_none_or(|stated| stated == *statement), 32, || {
            format!("{} chunks are on record as the whole of {tid}", statement.chunks)
        });
    }

    /// 32 and 33: the directories agree with the sender and with each other, and together they are the
    /// payload, or it is plain what is missing. `excused`: something may be.
    pub(crate) fn i32_i33_reading(&mut self, client: usize, seen: &Seen, excused: bool) {
        let Some(tid) = self.clients[client].tid else { return };
        for statement in &seen.statements {
            self.i32_on_record(tid, statement);
        }
        if self.tainted {
            return;
        }
        let layout = self.clients[client].layout.as_ref();
        let end = layout.map_or(0, Layout::chunks);
        let missing = (0..end).filter(|seq| !seen.chunks.contains_key(seq)).count();
        let beyond = seen.chunks.range(end..).count();
        self.check(seen.contradictions == 0, 33, || {
            format!("{} chunks differ between stores", seen.contradictions)
        });
        self.check(beyond == 0, 33, || format!("{beyond} chunks are beyond the end of {tid}"));
        self.check(missing == 0 || excused, 33, || {
            format!("{missing} chunks of {tid} are missing")
        });
        if missing == 0 && end > 0 {
            let mut hasher = blake3::Hasher::new();
            seen.chunks.values().for_each(|data| {
                hasher.update(data);
            });
            let hash: [u8; 32] = hasher.finalize().into();
            let same = self.stated(tid).is_none_or(|stated| stated.blake3 == hash);
            self.check(same, 33, || format!("another payload is read than was sent as {tid}"));
        }
    }

    /// 34: a store that sees a share does not say that something is missing.
    pub(crate) fn i34_share_is_no_whole(&mut self, ok: bool, tid: u64) {
        self.check(ok, 34, || format!("a share of {tid} is called unfinished"));
    }

    /// 35: a crowded store refuses, and deletes nothing.
    pub(crate) fn i35_crowding_deletes_nothing(&mut self, there: bool, key: Key) {
        self.check(there, 35, || format!("{}/{} went when the store was crowded", key.0, key.1));
    }
}
