"""What columns are made of: exact decimals, row numbers, and the names of constraints."""

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    MetaData,
    Numeric,
    Text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = [
    "ExactDecimal",
    "RowNumber",
    "metadata",
]


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal that comes back digit for digit: NUMERIC where the database has it, text where it has not (SQLite)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """NUMERIC without precision on PostgreSQL, TEXT elsewhere."""
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """A decimal on its way to the database."""
        return value if value is None or dialect.name == "postgresql" else format(value, "f")

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 -- the interface
        """A decimal on its way back."""
        return value if value is None or isinstance(value, Decimal) else Decimal(value)


# SQLite numbers rows by itself only in a column declared INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
