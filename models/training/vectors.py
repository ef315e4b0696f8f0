"""Item vectors in which interactions and content share one space.

Visits make a symmetric matrix over items, M = S / |S| + G / |G|: S holds the square roots of the
co-visitation sums (within a session, the nearer the more), G the number of people who acted on both items
(at any time). Its `DIM` leading eigenvectors, each times the root of its eigenvalue, are the items'
coordinates (as in factorising co-occurrence: Levy, Goldberg 2014, "Neural Word Embedding as Implicit
Matrix Factorization"; positive PMI was worse here: HR@10 .103 against .126 on MovieLens). Ridge regression
maps content into that space, and an item of n visits is

    v = n v_interactions + PRIOR v_content,    |v_interactions| = 1, |v| scaled to 1

on `content`'s grid. An item without visits has v = v_content, of the length that the regression gives it:
the weaker the content, the shorter, so that such an item is not near every person (at length 1 they took
half the hits of the visited ones). `Space.encode` gives the same vector to an item that comes later.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from models.arrays import F64
from models.release import content
from models.release.content import DIM
from models.release.release import Vectors

SPACE_NAME: Final = "covisit+content-1"
"""The kind of space."""
PRIOR: Final = 1.0
"""Weight of content, in visits."""
RIDGE: Final = 100.0
PROBES: Final = 64
"""Random vectors by which the norm of G is estimated (Hutchinson 1990)."""
_SEED: Final = 0

Rows = NDArray[np.int64]
Matrix = NDArray[np.float32]


class Visits(NamedTuple):
    """Person and item of each visit, as dense numbers."""

    person: Rows
    item: Rows


class CoVisits(NamedTuple):
    """Two items visited in one session; `weight` as `models.aggregates.tables` has it."""

    one: Rows
    other: Rows
    weight: F64


class Learnt(NamedTuple):
    """`vectors` (items, DIM) on the grid; `encoder` (DIM, DIM): content @ encoder is a vector."""

    vectors: Vectors
    encoder: Matrix


def learn(about: Vectors, visits: Visits, pairs: CoVisits) -> Learnt:
    """`about`: (items, DIM) content vectors, a row an item. The same input gives the same bytes."""
    counts = np.bincount(visits.item, minlength=len(about)).astype(np.float64)[:, None]
    met = _unit(_factors(_operator(len(about), visits, pairs), len(about)))
    there: NDArray[np.bool_] = np.asarray(met.any(axis=1))
    encoder = _ridge(about[there].astype(np.float64), met[there], counts[there])
    like = about.astype(np.float64) @ encoder
    blended = np.where(there[:, None], _unit(counts * met + PRIOR * like), like)
    return Learnt(content.within_grid(blended), encoder)


def _operator(items: int, visits: Visits, pairs: CoVisits) -> LinearOperator:
    """M as an operator, never as a matrix: G has as many entries as the longest histories have pairs."""
    near = sparse.coo_matrix((pairs.weight, (pairs.one, pairs.other)), (items, items)).tocsr()
    near = (near + near.T).sqrt()
    people = int(visits.person.max(initial=-1)) + 1
    ones = np.ones(len(visits.item))
    did = sparse.coo_matrix((ones, (visits.person, visits.item)), (people, items)).tocsr()
    did.data[:] = 1.0  # repeated visits of a person count once
    by_item, own = did.T.tocsr(), np.asarray(did.sum(axis=0)).reshape(-1, 1)

    def together(x: F64) -> F64:
        found: F64 = by_item @ (did @ x) - own * x
        return found

    chance = np.random.default_rng(_SEED)
    probes = np.where(chance.random((items, PROBES)) < 0.5, -1.0, 1.0)
    size = float(np.sqrt((together(probes) ** 2).sum(axis=0).mean())) or 1.0
    scale = float(sparse.linalg.norm(near)) or 1.0

    def times(x: F64) -> F64:
        columns = x.reshape(items, -1)
        found: F64 = near @ columns / scale + together(columns) / size
        return found.reshape(x.shape)

    return LinearOperator((items, items), matvec=times, matmat=times, dtype=np.float64)


def _factors(operator: LinearOperator, items: int) -> F64:
    """(items, DIM): leading eigenvectors times the roots of their eigenvalues, 0 where negative."""
    if items <= 2 * DIM:  # too few for the iteration, few enough to do it whole
        values, vectors = np.linalg.eigh(operator @ np.eye(items))
        values, vectors = values[-DIM:], vectors[:, -DIM:]
    else:
        start = np.random.default_rng(_SEED).random(items)
        values, vectors = eigsh(operator, DIM, which="LA", v0=start)
    factors = np.zeros((items, DIM))
    factors[:, : len(values)] = vectors * np.sqrt(np.maximum(values, 0.0))
    # an item without any pair has noise of the iteration's size, not a direction
    factors[np.linalg.norm(factors, axis=1) < 1e-9 * np.abs(factors).max(initial=0.0)] = 0.0
    return factors


def _ridge(about: F64, to: F64, counts: F64) -> Matrix:
    """argmin over B of sum_i w_i |about_i B - to_i|^2 + RIDGE |B|^2; w rises to 1 with the visits."""
    weighted = about * counts / (counts + PRIOR)
    square = weighted.T @ about + RIDGE * np.eye(DIM)
    solved: Matrix = np.linalg.solve(square, weighted.T @ to).astype(np.float32)
    return solved


def _unit(values: F64) -> F64:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit: F64 = np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
    return unit
