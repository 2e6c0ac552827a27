import pytest

from anonfs.errors import InvariantError
from anonfs.vfs import ListHead, ListLink


def links_of(head: ListHead) -> list[ListLink]:
    head.check_invariants()
    return list(head)


def linked(count: int) -> tuple[ListHead, list[ListLink]]:
    head = ListHead()
    links = [ListLink() for _ in range(count)]
    assert head.extend(links) == count
    return head, links


def test_a_new_head_is_empty_and_circular() -> None:
    head = ListHead()
    assert head.empty
    assert links_of(head) == []
    assert head.next is head.prev is head


def test_an_empty_head_is_true() -> None:
    assert ListHead()


def test_add_tail_keeps_order_and_closes_the_circle() -> None:
    head, (a, b, c) = linked(3)
    assert links_of(head) == [a, b, c]
    assert (head.prev, c.next, b.prev) == (c, head, a)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_unlink_leaves_the_others(gone: int) -> None:
    head, links = linked(3)
    links[gone].unlink()
    assert links[gone].empty
    assert links_of(head) == [link for link in links if not link.empty]
    head.add_tail(links[gone])
    assert links_of(head)[-1] is links[gone]


def test_unlink_of_a_lone_link_does_nothing() -> None:
    link = ListLink()
    link.unlink()
    assert link.empty


def test_a_link_cannot_be_in_two_lists() -> None:
    head, (link,) = linked(1)
    lone = ListHead()
    with pytest.raises(InvariantError, match="in a list already"):
        ListHead().add_tail(link)
    with pytest.raises(InvariantError, match="into itself"):
        lone.add_tail(lone)
    assert links_of(head) == [link]


def test_the_current_link_may_be_removed_while_iterating() -> None:
    head, _ = linked(3)
    for link in head:
        link.unlink()
    assert head.empty


def test_check_invariants_finds_a_walk_that_misses_the_head() -> None:
    head, (a, _, c) = linked(3)
    c.next = a
    with pytest.raises(InvariantError):
        head.check_invariants()


def test_check_invariants_finds_a_broken_way_back() -> None:
    head, (a, _, c) = linked(3)
    c.prev = a
    with pytest.raises(InvariantError):
        head.check_invariants()
