import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sim.results.tables import (
    SCHEMA_VERSION,
    TABLES,
    arrow_schema,
    arrow_table,
    fields_markdown,
    frame,
    labels,
    numbers,
)


@pytest.mark.parametrize("table", TABLES)
def test_every_field_carries_its_unit_and_description(table):
    schema = arrow_schema(table)
    assert schema.names == [column.name for column in TABLES[table]]
    for column in TABLES[table]:
        metadata = schema.field(column.name).metadata
        assert metadata == {b"unit": column.unit.encode(), b"description": column.description.encode()}
        assert column.unit
        assert column.description.endswith(".")
    assert schema.metadata[b"table"] == table.encode()
    assert schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert schema.metadata[b"description"]


@pytest.mark.parametrize("table", TABLES)
def test_the_suffix_of_a_name_is_its_unit(table):
    suffixes = {"_s": "s", "_tokens": "tokens", "_w": "W", "_usd": "USD", "_fraction": "1"}
    for column in TABLES[table]:
        for suffix, unit in suffixes.items():
            assert not column.name.endswith(suffix) or column.unit == unit, column


def test_the_reference_lists_every_column_with_its_unit():
    text = fields_markdown()
    for table, columns in TABLES.items():
        section = text.split(f"## {table}.parquet")[1].split("\n## ")[0]
        for column in columns:
            assert f"| `{column.name}` | {column.dtype} | {column.unit} |" in section


def test_unknown_table():
    with pytest.raises(ValueError, match=r"unknown table 'request'; known tables: requests"):
        arrow_schema("request")


def test_all_problems_of_a_table_are_reported_at_once(requests_of):
    table = requests_of([np.nan, 1.0], prompt_tokens=[1, 2**40]).drop(columns="model")
    table["ttft_s"] = 1.0
    with pytest.raises(ValueError, match="requests") as raised:
        arrow_table("requests", table)
    message = str(raised.value)
    assert "'model' is missing" in message
    assert "'ttft_s' is unknown" in message
    assert "'prompt_tokens' does not hold int32" in message
    assert "'arrival_s' has 1 nulls" in message


def test_missing_times_and_places_are_null_and_come_back_as_missing(requests_of):
    table = requests_of(
        [0.0, 1.0], e2e_s=[np.nan, 2.0], pool=[None, "main"], replica=pd.array([None, 3], dtype="Int32")
    )
    stored = arrow_table("requests", table)
    assert [stored[name].null_count for name in ("finished_s", "pool", "replica")] == [1, 1, 1]
    back = frame("requests", stored)
    assert back["replica"].dtype == "Int32"
    assert back["class"].dtype == "category"
    assert np.isnan(back["finished_s"][0])
    assert arrow_table("requests", back).equals(stored, check_metadata=True)


def test_nan_in_an_arrow_column_becomes_null_but_infinity_stays():
    rows = {name: pa.nulls(3) for name in ("note", "price_basis", "quantile", "low", "high", "model_low", "model_high")}
    rows |= {"value": pa.array([1.0, np.nan, np.inf]), "confidence": [0.95] * 3, "samples": [1] * 3}
    rows |= {name: ["x"] * 3 for name in ("scenario_id", "class", "pool", "metric", "unit", "method")}
    assert arrow_table("summary", rows)["value"].to_pylist() == [1.0, None, np.inf]


def test_equal_content_gives_an_equal_table_however_encoded(requests_of):
    plain = requests_of(np.arange(6.0), **{"class": ["b", "a", "b", "c", "a", "b"]})
    categories = plain.assign(**{"class": pd.Categorical(plain["class"], categories=["z", "c", "b", "a"])})
    chunks = pa.concat_tables([arrow_table("requests", plain[:2]), arrow_table("requests", plain[2:])])
    expected = arrow_table("requests", plain)
    for other in (categories, chunks):
        made = arrow_table("requests", other)
        assert made.equals(expected, check_metadata=True)
        assert made["class"].chunk(0).dictionary.to_pylist() == ["b", "a", "c"]
        assert made["class"].num_chunks == 1


def test_columns_read_alike_from_frame_and_arrow(requests_of):
    table = requests_of([0.0, 1.0, 2.0], e2e_s=[1.0, np.nan, 3.0], pool=["b", None, "a"])
    stored = arrow_table("requests", table)
    for source in (table, stored, frame("requests", stored)):
        np.testing.assert_array_equal(numbers(source, "finished_s"), [1.0, np.nan, 5.0])
        codes, names = labels(source, "pool")
        assert (codes.tolist(), names) == ([1, -1, 0], ["a", "b"])
