"""All groups by name. Members live in memory; a restarted broker makes them join again."""

from __future__ import annotations

from typing import Final

from infra.broker.codes import Code, Refused
from infra.broker.commits import Commits
from infra.broker.group import Group, GroupState

MIN_SESSION_MS: Final = 6_000  # Kafka's defaults for both
MAX_SESSION_MS: Final = 1_800_000


class Groups:
    """Groups with members, and groups that have commits alone."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._groups: dict[str, Group] = {}

    def get(self, name: str) -> Group | None:
        """The group, also one with commits alone; None for an unknown name."""
        group = self._groups.get(name)
        if group is None and self._commits.of_group(name):
            return Group(name)
        return group

    def to_join(self, name: str, may_create: bool) -> Group:
        """The group to join. Errors: `Refused` with INVALID_GROUP_ID or UNKNOWN_MEMBER_ID."""
        if not name:
            raise Refused(Code.INVALID_GROUP_ID, "empty group id")
        if name not in self._groups:
            if not may_create:
                raise Refused(Code.UNKNOWN_MEMBER_ID, "unknown member id")
            self._groups[name] = Group(name)
        return self._groups[name]

    def existing(self, name: str) -> Group:
        """A group that has or had members. Errors: `Refused` with UNKNOWN_MEMBER_ID."""
        return self.to_join(name, may_create=False)

    def check_commit(self, name: str, member: str, instance: str | None, generation: int) -> None:
        """Errors: `Refused` where this commit may not be made now."""
        group = self._groups.get(name)
        if group is not None:
            group.check_commit(member, instance, generation)
        elif generation >= 0:
            raise Refused(Code.ILLEGAL_GENERATION, "the group has no generation")

    def all(self) -> list[Group]:
        """Every group, also those with commits alone."""
        names = dict.fromkeys([*self._groups, *self._commits.groups()])
        return [group for name in names if (group := self.get(name)) is not None]

    def delete(self, name: str) -> None:
        """Deletes an empty group and its commits. Errors: `Refused`, `OSError`."""
        group = self.get(name)
        if group is None:
            raise Refused(Code.GROUP_ID_NOT_FOUND, "no such group")
        if group.state is not GroupState.EMPTY:
            raise Refused(Code.NON_EMPTY_GROUP, "the group has members")
        self._commits.delete([(name, key) for key in self._commits.of_group(name)])
        group.close()
        self._groups.pop(name, None)

    def close(self) -> None:
        """Answers every waiting request of all groups."""
        for group in self._groups.values():
            group.close()
