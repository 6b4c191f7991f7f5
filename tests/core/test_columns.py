"""Tables by column say the same as their rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscan.core.columns import Lazy, TextColumn, by_appearance
from mammoscan.core.tablefile import floats_of, mark_of_columns, number, numbers_of, open_table, read_columns

TEXTS = st.lists(st.sampled_from(["", "a", "A", "b", "ab"]), max_size=30)


@given(TEXTS)
def test_a_text_column_holds_its_cells_and_each_distinct_one_once(texts):
    column = TextColumn.of(texts)
    assert list(column) == [column[i] for i in range(len(texts))] == texts
    assert sorted(column.values) == sorted(set(texts))
    assert column.filled.tolist() == [bool(t) for t in texts]
    assert list(column[1:3]) == texts[1:3]


@given(TEXTS)
def test_texts_that_become_equal_are_one(texts):
    column = TextColumn.of(texts).mapped(str.lower)
    assert list(column) == [t.lower() for t in texts]
    assert len(set(column.values)) == len(column.values)


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "b", "c"])), max_size=20))
def test_where_one_column_has_nothing_the_other_speaks(rows):
    first, second = (TextColumn.of(row[k] for row in rows) for k in (0, 1))
    assert list(first.over(second)) == [a or b for a, b in rows]


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_groups_are_numbered_in_the_order_in_which_they_are_seen(codes):
    groups, first = by_appearance(np.array(codes, dtype=np.int64))
    seen = {}
    assert groups.tolist() == [seen.setdefault(code, len(seen)) for code in codes]
    assert first.tolist() == [codes.index(code) for code in seen]


def test_items_are_made_when_they_are_asked_for_and_only_those():
    made = []
    items = Lazy(10**9, lambda i: made.append(i) or i * i)
    assert items[3] == 9
    assert items[-1] == (10**9 - 1) ** 2
    assert items[2:4] == (4, 9)
    assert made == [3, 10**9 - 1, 2, 3]
    for outside in (10**9, -(10**9) - 1):
        with pytest.raises(IndexError):
            items[outside]


CELLS = ["", " ", "1", "0.5", " 2 ", "-3e2", "'-4", '="5"', "nan", "inf", "1_0", "x", "0,5", "1e999", "unknown"]


@given(st.lists(st.sampled_from(CELLS), max_size=12))
def test_numbers_of_a_column_are_those_of_its_cells_one_by_one(cells):
    from mammoscan.core.tablefile import clean

    text = TextColumn.of(map(clean, cells))
    for found, mark in ((floats_of(cells), "."), (numbers_of(text), "."), (numbers_of(text, ","), ",")):
        for i, cell in enumerate(map(clean, cells)):
            try:
                expected = number(cell, "x", mark) if cell else math.nan
            except ValueError:
                assert found.odd[i] == cell
                expected = math.nan
            else:
                assert i not in found.odd
            assert found.values[i] == pytest.approx(expected, nan_ok=True)
            assert found.filled[i] == bool(cell)


def test_columns_are_those_of_the_rows_also_where_rows_are_short(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b,c\n1, x ,2\n\n3,=y\n\'=z,,"5\n6"\n' + "7,8,9\n" * 9000)
    table = open_table(path)
    columns = {name: i for i, name in enumerate(table.names)}
    read = read_columns(table, columns, {"a"})
    rows = list(table.rows())
    assert read.rows.tolist() == [row for row, _ in rows]
    for name in "bc":
        assert list(read.text[name]) == [cells[name] for _, cells in rows]
    assert read.numbers["a"].odd == {2: "=z"}
    assert read.numbers["a"].values[[0, 1, 3]].tolist() == [1, 3, 7]
    assert mark_of_columns(path, read, {"b", "c"}) == "."
