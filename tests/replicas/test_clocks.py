"""The clock of the database is the one that counts; when it is set, everybody goes along."""

from __future__ import annotations

import psycopg
import pytest
from support.gateway import Gateway
from support.stores import SERVER
from support.waiting import until

from replicas.place import Place

pytestmark = pytest.mark.skipif(not SERVER, reason="needs a PostgreSQL: tools/with_postgres.py")
SKEW = """
CREATE TABLE public.skew (seconds double precision);
INSERT INTO public.skew VALUES (3600);
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
 $$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM public.skew)) $$;
"""


@pytest.mark.parametrize("role", ["web", "all"])
def test_a_leaver_does_not_wait_when_the_databases_clock_is_set_back(place: Place, gateway: Gateway, role: str) -> None:
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(SKEW)
        name = place.url.rpartition("/")[2]
        connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog".encode())
    worker = place.serve(place.settings("worker"), "--role", "worker")
    web = place.serve(place.settings("web"), "--role", role)
    leo, directory = gateway.account("leo"), web.directory
    directory.hire("leo", "Data")
    gateway.wait_for_member("data", leo.user_id)
    leo.keys = [gateway.key_of(leo.user_id, "data")]
    gateway.ready()
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute("UPDATE skew SET seconds = 0")
    until(lambda: worker.times_of("clock.set_back") or web.times_of("clock.set_back"), "somebody notices")
    directory.leave("leo")
    until(lambda: gateway.answers(leo.keys) == {401}, "the leaver is revoked", told=worker.said)
