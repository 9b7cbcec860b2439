"""The engine of a PostgreSQL database."""

from sqlalchemy import URL, Engine, create_engine

from managers.db.address import shown
from managers.errors import DatabaseError

#: Seconds until an attempt to connect fails.
CONNECT_TIMEOUT = 5

#: Seconds until the server ends a statement.
STATEMENT_TIMEOUT = 30

#: Seconds a thread waits for a free connection of the pool.
POOL_TIMEOUT = 10.0

_MILLISECONDS = 1000


def create(url: URL) -> Engine:
    """Return an engine with a small pool; whatever the URL's own query says about the connection wins."""
    defaults = {
        "application_name": "celeriac",
        "connect_timeout": CONNECT_TIMEOUT,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT * _MILLISECONDS}",
        # A link that died without a word would otherwise hold a thread for two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": STATEMENT_TIMEOUT * _MILLISECONDS,
    }
    try:
        return create_engine(
            url,
            connect_args={key: value for key, value in defaults.items() if key not in url.query},
            pool_size=2,
            max_overflow=8,
            pool_timeout=POOL_TIMEOUT,
            pool_pre_ping=True,
        )
    except ImportError as error:
        raise DatabaseError(
            f"database {shown(url)} needs the driver psycopg: pip install 'celeriac[postgresql]'"
        ) from error
