"""The outbox at work (law 7): each record reaches the log, and a relay that starts anew re-sends none."""

from __future__ import annotations

from flows.folds.batch import Decoded
from flows.folds.people import VERSION, PeopleFold
from flows.kit.commit import commit
from flows.relay import Relay
from infra import store
from infra.settings import Settings
from schemas import event as events
from schemas import keys
from schemas.event import Merge
from schemas.fence import Fence
from tests.flows.faults import whole_log
from tests.laws.test_commit_laws import linked_log
from tests.laws.world import person


def merges(settings: Settings) -> list[Merge]:
    told = [events.decode(value) for log in whole_log(settings).values() for _, value in log]
    return [event for event in told if isinstance(event, Merge)]


def test_a_relay_sends_all_and_one_that_starts_anew_re_sends_none(settings: Settings) -> None:
    with store.connect(settings) as client:
        log = linked_log()
        fold = PeopleFold(0, Fence("t", 4, 0, 0, VERSION), client.mget, 86_400_000, 1000)
        batch = Decoded(0, 0, len(log), log, [stamp for _, stamp, _ in log])
        commit(client, fold.fold(fold.dedupe(batch)))
        waiting = client.xrange(keys.outbox(0))

        relay = Relay(settings, client)
        assert relay.step() == 4
        assert relay.step() == client.xlen(keys.outbox(0)) == 0
        relay.close()
        assert {merge.person for merge in merges(settings)} == {person(2)}

        # a Redis that was wiped and filled itself again: the outbox is full, the position is gone
        client.delete(keys.outbox(0), *[keys.relayed(p) for p in range(4)])
        for name, fields in waiting:
            client.xadd(keys.outbox(0), fields, id=name)
        relay = Relay(settings, client)
        assert relay.step() == 0
        relay.close()
        numbers = [(merge.source, merge.offset, merge.n) for merge in merges(settings)]
        assert sorted(numbers) == [(0, 5, 1), (0, 7, 1), (0, 8, 1), (0, 9, 1)]
