"""One consumer group under the classic protocol: join, sync, heartbeat, leave, expire.

Empty -> PreparingRebalance (members join) -> CompletingRebalance (the leader assigns) -> Stable.
The rules and error codes are those of Kafka's `ClassicGroup`.
"""

from __future__ import annotations

import asyncio
import uuid
from enum import StrEnum
from typing import Final

from infra.broker.codes import Code, Refused
from infra.broker.members import Member, Membership

INITIAL_DELAY_SECONDS: Final = 0.05  # an empty group waits so long for more members


class GroupState(StrEnum):
    """As DescribeGroups and ListGroups spell them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Group:
    """Members and generation of a group. All times come from the running event loop's clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.members: dict[str, Member] = {}
        self._leader = ""
        self._pending: dict[str, asyncio.TimerHandle] = {}  # issued ids of no member yet
        self._deadline: asyncio.TimerHandle | None = None

    # -- join

    def new_id(self, client: str, session_seconds: float) -> str:
        """A member id for a first join, valid for one session time-out."""
        member = f"{client}-{uuid.uuid4()}"
        loop = asyncio.get_running_loop()
        self._pending[member] = loop.call_later(session_seconds, self._forget_pending, member)
        return member

    def admit(self, member: Member, protocol_type: str) -> asyncio.Future[Membership]:
        """Takes a join; the future has the answer when the generation begins.

        Errors: `Refused` with INCONSISTENT_GROUP_PROTOCOL, UNKNOWN_MEMBER_ID or
        FENCED_INSTANCE_ID, also through the future.
        """
        self.check_protocols(member, protocol_type)
        if not member.id:
            return self._admit_without_id(member, protocol_type)
        if member.id in self._pending:
            self._pending.pop(member.id).cancel()
            return self._add(member, protocol_type)
        existing = self.member(member.id, member.instance)
        unchanged = existing.protocols == member.protocols
        existing.protocols = member.protocols
        existing.rebalance_seconds = member.rebalance_seconds
        existing.session_seconds = member.session_seconds
        settled = unchanged and self.state in (GroupState.COMPLETING, GroupState.STABLE)
        if settled and not (self.state is GroupState.STABLE and existing.id == self._leader):
            return self._answer(existing)
        return self._rejoin(existing)

    def _admit_without_id(self, member: Member, protocol_type: str) -> asyncio.Future[Membership]:
        """A first join by an old client, or by a static member that may replace itself."""
        member.id = f"{member.instance or member.client}-{uuid.uuid4()}"
        existing = self._static(member.instance)
        if existing is None:
            return self._add(member, protocol_type)
        self._replace(existing, member)
        if self.state is GroupState.STABLE and existing.protocols == member.protocols:
            return self._answer(member)
        return self._rejoin(member)

    def _add(self, member: Member, protocol_type: str) -> asyncio.Future[Membership]:
        self.members[member.id] = member
        self.protocol_type = protocol_type
        return self._rejoin(member)

    def _replace(self, old: Member, member: Member) -> None:
        """`member` replaces `old`, a process of the same instance; the id of `old` is fenced."""
        old.cancel_timer()
        old.fail(Refused(Code.FENCED_INSTANCE_ID, "another process has this instance id"))
        member.assignment = old.assignment
        self.members = {m.id: m for m in (member if m is old else m for m in self.members.values())}
        if self._leader == old.id:
            self._leader = member.id
        self._restart_session(member)

    def _rejoin(self, member: Member) -> asyncio.Future[Membership]:
        member.fail(rebalance_in_progress())  # an older request of the same member
        member.join = asyncio.get_running_loop().create_future()
        member.cancel_timer()
        was_empty = self.state is GroupState.EMPTY
        if self.state is not GroupState.PREPARING:
            self._prepare(INITIAL_DELAY_SECONDS if was_empty else None)
        elif self._all_joined():
            self._set_deadline(INITIAL_DELAY_SECONDS if self.generation == 0 else 0)
        return member.join

    def _prepare(self, delay: float | None = None) -> None:
        """Begins a rebalance, which ends when all members have joined or the longest time-out is over."""
        for member in self.members.values():
            if member.sync is not None and not member.sync.done():
                member.sync.set_exception(rebalance_in_progress())
            member.sync = None
            if member.join is None:
                self._restart_session(member)
        self.state = GroupState.PREPARING
        if delay is None:
            delay = (
                0 if self._all_joined() else max(m.rebalance_seconds for m in self.members.values())
            )
        self._set_deadline(delay)

    def _all_joined(self) -> bool:
        return not self._pending and all(m.join is not None for m in self.members.values())

    def _set_deadline(self, delay: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(delay, self._begin)

    def _begin(self) -> None:
        """Ends the join phase: the members that joined form a new generation."""
        self._deadline = None
        for member in [m for m in self.members.values() if m.join is None]:
            if member.instance is None:
                self._remove(member)
        if not self.members:
            self._become_empty()
            return
        if all(m.join is None for m in self.members.values()):  # absent static members alone
            self._set_deadline(max(m.rebalance_seconds for m in self.members.values()))
            return
        self.generation += 1
        self.state = GroupState.COMPLETING
        if self._leader not in self.members or self.members[self._leader].join is None:
            self._leader = next(m.id for m in self.members.values() if m.join is not None)
        self.protocol = self._choose()
        for member in self.members.values():
            member.assignment = b""
            joined, member.join = member.join, None
            self._restart_session(member)
            if joined is not None and not joined.done():
                joined.set_result(self._membership(member))

    def _membership(self, member: Member) -> Membership:
        leads = member.id == self._leader
        members = list(self.members.values()) if leads else []
        return Membership(member.id, self.generation, self._leader, self.protocol or "", members)

    def _answer(self, member: Member) -> asyncio.Future[Membership]:
        """A future that already has the membership in the current generation."""
        self._restart_session(member)
        future: asyncio.Future[Membership] = asyncio.get_running_loop().create_future()
        future.set_result(self._membership(member))
        return future

    def check_protocols(self, member: Member, protocol_type: str) -> None:
        """Errors: `Refused` with INCONSISTENT_GROUP_PROTOCOL."""
        others = [m for m in self.members.values() if m.id != member.id]
        shared = set(member.protocols).intersection(*(m.protocols for m in others))
        if not shared or not protocol_type or (others and protocol_type != self.protocol_type):
            raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL, "no protocol that all members share")

    def _choose(self) -> str:
        """The shared protocol that most members prefer."""
        shared = set.intersection(*(set(m.protocols) for m in self.members.values()))
        votes = [next(p for p in m.protocols if p in shared) for m in self.members.values()]
        return max(dict.fromkeys(votes), key=votes.count)

    # -- sync, heartbeat, leave

    def sync(
        self, member: Member, generation: int, assignments: dict[str, bytes]
    ) -> asyncio.Future[bytes]:
        """The member's assignment; the future is done when the leader has sent the assignments.

        Errors: `Refused`, also through the future.
        """
        self._check_generation(generation)
        if self.state is GroupState.PREPARING:
            raise rebalance_in_progress()
        self._restart_session(member)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.state is GroupState.STABLE:
            future.set_result(member.assignment)
            return future
        member.fail(rebalance_in_progress())  # an older request of the same member
        member.sync = future
        if member.id == self._leader:
            self.state = GroupState.STABLE
            for other in self.members.values():
                other.assignment = assignments.get(other.id, b"")
                if other.sync is not None and not other.sync.done():
                    other.sync.set_result(other.assignment)
                other.sync = None
        return future

    def heartbeat(self, member: Member, generation: int) -> None:
        """Prolongs the session. Errors: `Refused` with ILLEGAL_GENERATION or REBALANCE_IN_PROGRESS."""
        self._check_generation(generation)
        self._restart_session(member)
        if self.state is GroupState.PREPARING:
            raise rebalance_in_progress()

    def leave(self, member_id: str, instance: str | None) -> None:
        """Removes a member, or an issued id that never joined. Errors: `Refused`."""
        if member_id in self._pending:
            self._forget_pending(member_id)
            return
        static = self._static(instance) if not member_id else None
        self._expel(static or self.member(member_id, instance))

    def check_commit(self, member_id: str, instance: str | None, generation: int) -> None:
        """Errors: `Refused` where this member may not commit now."""
        if generation < 0 and self.state is GroupState.EMPTY:
            return
        if generation < 0 and not member_id and instance is None:
            raise Refused(Code.UNKNOWN_MEMBER_ID, "the group has members: commit as one of them")
        member = self.member(member_id, instance)
        self._check_generation(generation)
        self._restart_session(member)
        if self.state is GroupState.COMPLETING:
            raise rebalance_in_progress()

    def member(self, member_id: str, instance: str | None) -> Member:
        """The member of that id. Errors: `Refused` with UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
        if instance is not None:
            static = self._static(instance)
            if static is None:
                raise Refused(Code.UNKNOWN_MEMBER_ID, "unknown instance id")
            if static.id != member_id:
                raise Refused(Code.FENCED_INSTANCE_ID, "another process has this instance id")
            return static
        member = self.members.get(member_id)
        if member is None:
            raise Refused(Code.UNKNOWN_MEMBER_ID, "unknown member id")
        return member

    def close(self) -> None:
        """Cancels every timer and answers every waiting request."""
        for timer in [*self._pending.values(), self._deadline]:
            if timer is not None:
                timer.cancel()
        for member in self.members.values():
            member.cancel_timer()
            member.fail(Refused(Code.COORDINATOR_NOT_AVAILABLE, "the broker is stopping"))

    # -- members that go

    def _static(self, instance: str | None) -> Member | None:
        if instance is None:
            return None
        return next((m for m in self.members.values() if m.instance == instance), None)

    def _check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise Refused(Code.ILLEGAL_GENERATION, "not the group's generation")

    def _restart_session(self, member: Member) -> None:
        member.cancel_timer()
        loop = asyncio.get_running_loop()
        member.expiry = loop.call_later(member.session_seconds, self._expire, member)

    def _expire(self, member: Member) -> None:
        if member.join is not None or member.sync is not None:  # it waits for an answer
            self._restart_session(member)
        elif self.members.get(member.id) is member:
            self._expel(member)

    def _expel(self, member: Member) -> None:
        self._remove(member)
        if not self.members:
            self._become_empty()
        elif self.state is GroupState.PREPARING:
            self._finish_if_all_joined()
        else:
            self._prepare()

    def _remove(self, member: Member) -> None:
        member.cancel_timer()
        member.fail(Refused(Code.UNKNOWN_MEMBER_ID, "the member left"))
        del self.members[member.id]

    def _forget_pending(self, member_id: str) -> None:
        timer = self._pending.pop(member_id, None)
        if timer is not None:
            timer.cancel()
        self._finish_if_all_joined()

    def _finish_if_all_joined(self) -> None:
        if self.state is GroupState.PREPARING and self.members and self._all_joined():
            self._set_deadline(0)

    def _become_empty(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self.state is not GroupState.EMPTY:
            self.generation += 1
        self.state, self.protocol, self._leader = GroupState.EMPTY, None, ""


def rebalance_in_progress() -> Refused:
    """The refusal for members while a generation ends."""
    return Refused(Code.REBALANCE_IN_PROGRESS, "the group is rebalancing")
