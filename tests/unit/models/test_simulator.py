"""The simulated people behave as their closed form says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infra.apps.demo.audience import Audience
from infra.datasets.generated import generated
from models.simulator import truth
from models.simulator.people import EXAMINED, Look, People, expected_ctr
from models.simulator.truth import MIN_RATINGS, TASTE_DIM, Items, Tastes

ANY = Tastes(np.zeros(TASTE_DIM), np.eye(TASTE_DIM))


def spread(count: int, seed: int = 0) -> Items:
    """Items with vectors in all directions."""
    rng = np.random.default_rng(seed)
    return Items(ANY.draw(count, rng), rng.standard_normal(count))


def crowd(count: int, items: Items | None = None, seed: int = 1) -> People:
    return People(items or spread(40), ANY, count, np.random.default_rng(seed))


def alone(cosine: float, b: float) -> People:
    """One person in a world of one item, which is therefore what they come for."""
    q = np.eye(TASTE_DIM)[:1]
    people = crowd(1, Items(q, np.array([b])))
    people.p[0] = cosine * np.eye(TASTE_DIM)[0] + math.sqrt(1 - cosine**2) * np.eye(TASTE_DIM)[1]
    people.start(0, 0.0)
    return people


def test_clicks_come_as_often_as_the_closed_form_says() -> None:
    people, chance = crowd(2_000), np.random.default_rng(2)
    clicks, expected, variance, by_hand = 0.0, 0.0, 0.0, 0.0
    for person in range(2_000):
        people.start(person, chance.exponential())
        for _ in range(3):
            slate = chance.permutation(40)[:10].tolist()
            by_hand += 10 * expected_ctr(people.utility(person, slate))
            look = people.look(person, slate)
            clicks += look.clicked.sum()
            expected += look.expected.sum()
            variance += (look.expected * (1 - look.expected)).sum()
    assert expected == pytest.approx(by_hand)
    assert abs(clicks - expected) < 4 * math.sqrt(variance)
    assert 0.02 < expected / 60_000 < 0.2


def test_slots_are_examined_along_the_curve_whatever_they_hold() -> None:
    people = crowd(8_000)
    examined = np.zeros(10)
    for person in range(8_000):
        examined += people.look(person, range(10)).examined
    curve = np.arange(1, 11) ** -0.7
    assert EXAMINED[:10] == pytest.approx(curve)
    assert (np.abs(examined - 8_000 * curve) <= 4 * np.sqrt(8_000 * curve * (1 - curve))).all()


def test_a_utility_by_hand_agrees() -> None:
    people = alone(cosine=0.5, b=2.0)
    # 2.6 x 0.5 + 1.6 x 1 + 0.45 x 2 - 2.65
    assert people.utility(0, [0])[0] == pytest.approx(1.15)
    assert expected_ctr(people.utility(0, [0])) == pytest.approx(1 / (1 + math.exp(-1.15)))


def test_people_tire_of_what_they_are_shown_and_forget_it() -> None:
    people = alone(cosine=0.0, b=-40.0)  # no person clicks that
    fresh = people.utility(0, [0])[0]
    for shown in range(1, 8):
        people.look(0, [0])
        assert people.utility(0, [0])[0] == pytest.approx(fresh - 0.5 * min(shown, 5))
    taste = people.p[0].copy()
    people.start(0, 2.0)
    moved = 2.6 * ((people.p[0] - taste) @ people.items.q[0])
    assert people.utility(0, [0])[0] - moved == pytest.approx(fresh - 0.5 * 7 * 0.6**2)


def test_what_was_clicked_is_hardly_clicked_again() -> None:
    people = alone(cosine=1.0, b=40.0)  # each person clicks that
    before = people.utility(0, [0])[0]
    assert people.look(0, [0]).clicked.all()
    assert people.utility(0, [0])[0] == pytest.approx(before - 0.5 - 6)


def test_only_what_was_examined_is_clicked_and_only_what_was_clicked_is_bought() -> None:
    people = crowd(300)
    bought = 0
    for person in range(300):
        people.start(person, 0.0)
        look = people.look(person, range(40))
        assert not (look.clicked & ~look.examined).any()
        assert not (look.bought & ~look.clicked).any()
        bought += look.bought.sum()
    assert bought
    empty = people.look(0, [])
    assert len(empty.clicked) == 0
    assert expected_ctr(empty.expected) == 0


def test_what_is_clicked_is_bought_by_its_utility_less_the_price() -> None:
    # 2.6 + 1.6 + 0.45 b - 2.65 = 3.5: of the clicked every second one
    people = crowd(4_000, Items(np.eye(TASTE_DIM)[:1], np.array([1.95 / 0.45])))
    people.p[:] = np.eye(TASTE_DIM)[0]
    looks = []
    for person in range(4_000):
        people.start(person, 0.0)
        looks.append(people.look(person, [0]))
    clicked, bought = (sum(getattr(it, name).sum() for it in looks) for name in Look._fields[1:3])
    assert clicked > 3_500
    assert abs(bought - clicked / 2) < 4 * math.sqrt(clicked / 4)


def test_people_come_for_what_they_like() -> None:
    people = crowd(4_000, Items(np.eye(TASTE_DIM)[:2], np.array([2.0, 0.0])))
    people.p[:] = 0.6 * np.eye(TASTE_DIM)[0] + 0.8 * np.eye(TASTE_DIM)[1]
    for_first = 0
    for person in range(4_000):
        people.start(person, 0.0)
        first, second = people.utility(person, [0, 1])
        # taste: 2.6 x -0.2, pull: 0.45 x 2, and 1.6 for what they came for
        for_first += first - second + 0.52 - 0.9 > 0
    share = 1 / (1 + math.exp(-(4 * -0.2 + 0.5 * 2)))  # softmax of two
    assert abs(for_first - 4_000 * share) < 4 * math.sqrt(4_000 * share * (1 - share))


def test_taste_drifts_on_the_sphere() -> None:
    people = crowd(1_000)
    before = people.p.copy()
    for person in range(1_000):
        people.start(person, 1.0)
    assert np.linalg.norm(people.p, axis=1) == pytest.approx(1)
    kept = (before * people.p).sum(1)
    # p + noise of length sqrt(1 - rho^2) in all directions, set back to norm 1
    assert kept.mean() == pytest.approx(0.97, abs=0.005)
    for person in range(1_000):
        people.start(person, 1.0)  # no time passed
    assert ((before * people.p).sum(1) == kept).all()


def test_the_chances_of_a_person_do_not_depend_on_others() -> None:
    busy, quiet = crowd(3), crowd(3)
    for person in (0, 2):
        busy.start(person, 0.5)
        busy.look(person, range(10))
    assert busy.start(1, 1.0) == quiet.start(1, 1.0)
    for mine, theirs in zip(busy.look(1, range(10)), quiet.look(1, range(10)), strict=True):
        assert (mine == theirs).all()


def test_a_slate_in_order_of_utility_is_worth_the_most() -> None:
    chance = np.random.default_rng(3)
    for _ in range(100):
        x = chance.normal(size=10)
        assert expected_ctr(np.sort(x)[::-1]) >= expected_ctr(x)


def test_items_that_people_pick_themselves_suit_them_and_come_once() -> None:
    people, gains = crowd(50), []
    for person in range(50):
        found = people.picks(person, 12)
        assert [len(sitting) for sitting in found] == [5, 5, 2]
        assert len({slot for sitting in found for slot in sitting}) == 12
        liking = people.items.q @ people.p[person]
        taken = np.isin(np.arange(40), [slot for sitting in found for slot in sitting])
        gains.append(liking[taken].mean() - liking[~taken].mean())
        rest = people.picks(person, 28)
        assert not taken[[slot for sitting in rest for slot in sitting]].any()
    assert np.mean(gains) > 0.1


def test_sessions_have_five_slates_and_few_people_have_most_of_them() -> None:
    people = crowd(2_000)
    slates = [people.start(person, 0.0) for person in range(2_000)]
    assert min(slates) >= 2
    assert np.mean(slates) == pytest.approx(5, abs=0.4)
    assert people.activity.mean() == pytest.approx(1)
    busiest = np.sort(people.activity)[-400:]
    assert 0.4 < busiest.sum() / 2_000 < 0.75


def test_items_that_the_same_people_rate_lie_together() -> None:
    # two audiences of 30, each with 20 films of its own, of which each person rates half
    chance = np.random.default_rng(4)
    pairs = [
        (person, 20 * (person % 2) + film)
        for person in range(60)
        for film in chance.permutation(20)[:10]
    ]
    person, item = np.array(pairs).T
    u, v = truth.factors(person, item, 60, 40)
    made = truth.items(v, np.bincount(item), ["a"] * 40, chance)
    assert np.linalg.norm(made.q, axis=1) == pytest.approx(1)
    cosines = made.q @ made.q.T
    assert cosines[:20, :20].mean() > cosines[:20, 20:].mean() + 0.2
    own = u[::2] @ v[:20].T
    assert own.mean() > (u[::2] @ v[20:].T).mean()


def test_an_item_with_few_ratings_lies_about_its_category() -> None:
    chance = np.random.default_rng(5)
    counts = np.tile([MIN_RATINGS, MIN_RATINGS - 1], 50)
    vectors = np.repeat(np.eye(TASTE_DIM)[:2], 50, 0)
    vectors[counts < MIN_RATINGS] = np.eye(TASTE_DIM)[2]  # few ratings count for nothing
    made = truth.items(vectors, counts, ["a"] * 50 + ["b"] * 50, chance)
    bare = counts < MIN_RATINGS
    towards = made.q[bare] @ np.eye(TASTE_DIM)[:2].T
    assert np.linalg.norm(made.q, axis=1) == pytest.approx(1)
    assert towards[:25, 0].mean() > 0.5 > abs(towards[:25, 1].mean())
    assert towards[25:, 1].mean() > 0.5
    # its category unknown: about the middle of everything
    other = truth.items(vectors, counts, ["a"] * 50 + ["c", "b"] * 25, chance)
    assert np.isfinite(other.q).all()


def test_tastes_have_mean_and_spread_of_those_they_are_fitted_to() -> None:
    directions = ANY.draw(500, np.random.default_rng(6))
    fitted = truth.tastes(3.0 * directions)
    assert fitted.mean == pytest.approx(directions.mean(0))
    assert fitted.root @ fitted.root.T == pytest.approx(np.cov(directions.T, bias=True), abs=1e-12)


def test_the_demo_s_people_come_from_its_data_the_same_each_time() -> None:
    found = generated()
    one, other = (Audience(found, 20, seed=7) for _ in range(2))
    assert [line.json for line in one.history(10**12)] == [
        line.json for line in other.history(10**12)
    ]
    assert len(set(one.names)) == 20
    assert (one.people.p == other.people.p).all()
    rated = {it.item_id for it in found.ratings}
    b = one.people.items.b
    assert b[[one.slots[item] for item in rated]].mean() == pytest.approx(0, abs=0.2)


def test_popularity_earns_about_five_percent() -> None:
    """As QUALITY.md sets c: three days of the popular, which they tire of."""
    audience = Audience(generated(), 120, seed=8)
    people, chance = audience.people, np.random.default_rng(9)
    liked = np.zeros(len(audience.item_ids))
    for person in range(120):
        for sitting in people.picks(person, 30):
            liked[sitting] += 1
    shown = np.zeros((120, len(liked)))
    had = np.zeros((120, len(liked)), np.bool_)
    rates = []
    for day in range(3):
        for person in range(120):
            for _ in range(people.start(person, day + chance.random())):
                worth = np.where(had[person], -1, liked * 0.8 ** shown[person])
                slate = np.argsort(-worth)[:10]
                look = people.look(person, slate.tolist())
                had[person, slate[look.clicked]] = True
                shown[person, slate] += 1
                rates.append(look.expected.mean())
    assert 0.03 < np.mean(rates) < 0.07
