import pytest

from anonfs.errors import InvariantError
from anonfs.vfs import ListHead


def owners(head: ListHead) -> list[object]:
    head.check_invariants()
    return [link.owner for link in head]


def linked(*names: str) -> tuple[ListHead, list[ListHead]]:
    head = ListHead("head")
    links = [ListHead(name) for name in names]
    for link in links:
        head.add_tail(link)
    return head, links


def test_a_new_head_is_empty_and_circular() -> None:
    head = ListHead()
    assert head.empty
    assert owners(head) == []
    assert head.next is head.prev is head


def test_an_empty_head_is_true() -> None:
    assert ListHead()


def test_add_tail_keeps_order_and_closes_the_circle() -> None:
    head, (a, b, c) = linked("a", "b", "c")
    assert owners(head) == ["a", "b", "c"]
    assert (head.prev, c.next, b.prev) == (c, head, a)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_unlink_leaves_the_others(gone: int) -> None:
    head, links = linked("a", "b", "c")
    links[gone].unlink()
    assert links[gone].empty
    assert owners(head) == [link.owner for link in links if not link.empty]
    head.add_tail(links[gone])
    assert owners(head)[-1] == links[gone].owner


def test_unlink_of_a_lone_link_does_nothing() -> None:
    link = ListHead()
    link.unlink()
    assert link.empty


def test_a_link_cannot_be_in_two_lists() -> None:
    head, (link,) = linked("a")
    lone = ListHead()
    with pytest.raises(InvariantError, match="in a list already"):
        ListHead().add_tail(link)
    with pytest.raises(InvariantError, match="into itself"):
        lone.add_tail(lone)
    assert owners(head) == ["a"]


def test_the_current_link_may_be_removed_while_iterating() -> None:
    head, _ = linked("a", "b", "c")
    for link in head:
        link.unlink()
    assert head.empty


def test_check_invariants_finds_a_walk_that_misses_the_head() -> None:
    head, (a, _, c) = linked("a", "b", "c")
    c.next = a
    with pytest.raises(InvariantError):
        head.check_invariants()


def test_check_invariants_finds_a_broken_way_back() -> None:
    head, (a, _, c) = linked("a", "b", "c")
    c.prev = a
    with pytest.raises(InvariantError):
        head.check_invariants()
