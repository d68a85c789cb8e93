"""Who may do what: keys, what portal links are signed with, and sessions of pages."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text

from sidemeter_control.store.tables.columns import metadata
from sidemeter_control.store.tables.spread import at_home

__all__ = ["api_keys", "link_keys", "retired_secrets", "sessions"]

# `prefix`: how the secret begins, for people to know it by. `customer_key` or `service`: what alone the key is for.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("prefix", Text),
    Column("customer_key", Text),
    Column("service", Text),
    Column("last_used_at_us", BigInteger),
    info=at_home("asked for by their hash, by nobody's customer"),
)

# Secrets that another took the place of, each with the instant until which it is taken. They stay, so that none comes back.
retired_secrets = Table(
    "retired_secrets",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("ends_at_us", BigInteger, nullable=False),
    Index(None, "key_id"),
    info=at_home("asked for with the keys"),
)

# The secrets are there as they are: they have to sign.
link_keys = Table(
    "link_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("ends_at_us", BigInteger),
    info=at_home("a row or two"),
)

# A session stands for what it was opened with, the secret of a key or a portal link, and ends with it. `owner`: the id of
# the key or of the link.
sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("secret_hash", LargeBinary),
    Column("link", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Index(None, "owner"),
    Index(None, "expires_at_us"),
    info=at_home("a row for each browser, gone when it expires"),
)
