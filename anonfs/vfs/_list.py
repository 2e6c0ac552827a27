"""ListHead: an intrusive circular doubly linked list, after the kernel's ``struct list_head``.

The inode owns a head; whatever hangs on it is a `ListLink`, so that taking an element off needs the
element alone and neither the list nor a search::

    inode.share_ring           area A               area B
    ┌──────────────┐       ┌────────────┐      ┌────────────┐
    │ next ────────┼──────▶│ next ──────┼─────▶│ next ──────┼──▶ the head
    │ prev         │◀──────┼─ prev      │◀─────┼─ prev      │
    └──────────────┘       └────────────┘      └────────────┘
      ▲ prev of the head is B: add_tail is two stores on either side

It must not know what is linked: C finds the element around a link by container_of, here an element
inherits from its link. A head is a link, too. A list has no lock; whoever owns the head says who
may change it. Here and in the vm floor checks are written out, without `require`: to make a message
for each of 10,000 areas costs more than all the rest.
"""

from collections.abc import Iterable, Iterator

from anonfs.errors import InvariantError

__all__ = ["ListHead", "ListLink"]


class ListLink:
    """A place in a list: alone, it is linked to itself."""

    __slots__ = ("next", "prev")

    def __init__(self) -> None:
        self.next: ListLink = self
        self.prev: ListLink = self

    @property
    def empty(self) -> bool:
        """Whether it is in no list; for a head, whether it has no links."""
        return self.next is self

    def unlink(self) -> None:
        """Take this link out of its list and leave it alone, ready to be added again.

        As the kernel's list_del_init, it does nothing to a link that is in no list.
        """
        self.prev.next, self.next.prev = self.next, self.prev
        self.next = self.prev = self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}{' (alone)' if self.empty else ''}>"


class ListHead(ListLink):
    """The head of a list.

    There is deliberately no ``__len__``: it would make an empty head false.
    """

    __slots__ = ()

    def add_tail(self, link: ListLink) -> None:
        """Put ``link``, which must be in no list, before this head: at the end of its list."""
        self.extend((link,))

    def extend(self, links: Iterable[ListLink]) -> int:
        """Put ``links``, which must be in no list, at the end in this order; return how many."""
        count = 0
        for link in links:
            if link.next is not link:
                raise InvariantError(f"{link!r} is in a list already")
            if link is self:
                raise InvariantError(f"{link!r} cannot be linked into itself")
            last = self.prev
            link.prev, link.next = last, self
            last.next = self.prev = link
            count += 1
        return count

    def __iter__(self) -> Iterator[ListLink]:
        """The links of this head, oldest first.

        As in list_for_each_safe the link just handed out may be unlinked; others may not.
        """
        link = self.next
        while link is not self:
            following = link.next
            yield link
            link = following

    def check_invariants(self) -> None:
        """Require that the list is circular both ways.

        It ends on any input: a walk that does not come back to the head enters some link a second
        time, from a neighbour that cannot be the link's ``prev``.
        """
        link: ListLink = self
        while True:
            if link.next.prev is not link:
                raise InvariantError(f"{link!r} is not the prev of its next")
            link = link.next
            if link is self:
                return
