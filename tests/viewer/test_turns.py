"""Whose turn it is, in simulated time: newest wins, coarse first, nobody starves, who left is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from raytrans.viewer.turns import ANYBODY, Next, Rank, Turns


def job(turns: Turns, owner, kind: str = "look", rank: Rank = Rank.COARSE, after: float = 0.0):
    return turns.ask(owner, kind, iter(()), Next(rank, after))


def served(turns: Turns, count: int, now: float = 0.0) -> list:
    """Owners of so many turns, of jobs that never end."""
    owners = []
    for _ in range(count):
        taken = turns.next(now)
        owners.append(None if taken is None else taken.owner)
        if taken is not None:
            turns.done(taken, taken.next)
    return owners


def test_the_newest_wish_takes_the_place_of_the_older():
    turns = Turns()
    old = job(turns, 1)
    new = job(turns, 1)
    assert (len(turns), turns.wanted(old), turns.wanted(new)) == (1, False, True)
    assert turns.next(0.0) is new
    turns.done(old, Next(Rank.FINE))  # a piece of the old one that was under way
    assert turns.next(0.0) is new
    turns.done(new, None)
    assert len(turns) == 0 and turns.next(0.0) is None


def test_a_wish_of_another_kind_stands_beside_it():
    turns = Turns()
    job(turns, 1, "look"), job(turns, 1, "film", Rank.FINE)
    assert len(turns) == 2
    turns.drop(1, "look")
    assert turns.next(0.0).kind == "film"


def test_coarse_pictures_go_first_and_idle_work_last():
    turns = Turns()
    for owner, rank in ((1, Rank.IDLE), (2, Rank.FINE), (3, Rank.COARSE)):
        job(turns, owner, rank=rank)
    order = []
    while (taken := turns.next(0.0)) is not None:
        order.append(taken.owner)
        turns.done(taken, None)
    assert order == [3, 2, 1]


def test_nothing_is_due_before_its_time():
    turns = Turns()
    job(turns, 1, after=5.0)
    assert turns.next(4.9) is None and turns.wait(4.5) == 0.5
    assert turns.next(5.0).owner == 1 and turns.wait(6.0) == 0.0
    turns.drop(1)
    assert turns.wait(6.0) is None


def test_equals_take_turns():
    turns = Turns()
    for owner in range(5):
        job(turns, owner)
    assert served(turns, 10) == [0, 1, 2, 3, 4] * 2


def test_a_camera_that_never_rests_does_not_starve_the_others():
    """One asks for coarse pictures all the time, two want finer ones; the points, for which nobody waits, have to."""
    turns = Turns()
    job(turns, "moves"), job(turns, None, rank=Rank.IDLE)
    for owner in ("rests", "films"):
        job(turns, owner, rank=Rank.FINE)
    owners = served(turns, 8 * ANYBODY)
    assert owners.count("moves") == 8 * (ANYBODY - 1)
    assert owners.count("rests") == owners.count("films") == 4
    turns.drop("moves")
    assert None not in served(turns, 20)
    turns.drop("rests"), turns.drop("films")
    assert served(turns, 3) == [None] * 3


def test_who_left_has_no_turn():
    turns = Turns()
    gone = job(turns, 1)
    job(turns, 1, "film"), job(turns, 2)
    taken = turns.next(0.0)
    turns.drop(1)
    turns.done(taken, Next(Rank.FINE))
    assert not turns.wanted(gone) and set(served(turns, 5)) == {2}


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "drop", "work"]), st.integers(0, 3), st.sampled_from(list(Rank))), max_size=60
)


@given(STEPS)
def test_against_a_list_of_wishes(steps):
    """The oracle keeps the newest wish of each owner, in a dictionary, and looks at all of them."""
    turns, wishes, now = Turns(), {}, 0.0
    for what, owner, rank in steps:
        now += 1
        if what == "ask":
            wishes[owner] = job(turns, owner, rank=rank, after=now + rank)
        elif what == "drop":
            turns.drop(owner)
            wishes.pop(owner, None)
        else:
            taken = turns.next(now)
            due = {o: w for o, w in wishes.items() if w.next.after <= now}
            assert (taken is None) == (not due)
            if taken is not None:
                assert wishes[taken.owner] is taken and taken.next.after <= now
                turns.done(taken, None)
                del wishes[taken.owner]
        assert len(turns) == len(wishes)
