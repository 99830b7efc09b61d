"""One host, one name: as in the URL, however it is spelled there or in a setting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.host import place_of, spellings, written_host
from cachelayer.core.scope import target_of


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.example/v1/x?y#z", "api.example"),
        ("http://api.example/v1", "api.example"),
        ("https://api.example:443/", "api.example"),
        ("http://api.example:80/", "api.example"),
        ("http://api.example:443/", "api.example:443"),
        ("https://api.example:80/", "api.example:80"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("HTTPS://API.Example/", "api.example"),
        ("https://api.example./", "api.example"),
        ("https://api.example.:8443/", "api.example:8443"),
        ("https://me:secret@api.example/", "api.example"),
        ("https://[::1]/", "[::1]"),
        ("http://[0:0:0:0:0:0:0:1]:8080/", "[::1]:8080"),
        ("https://[2001:DB8::1]:443/", "[2001:db8::1]"),
        ("https://[::ffff:1.2.3.4]/", "[::ffff:102:304]"),
        ("https://[0:0:0:0:0:FFFF:0.0.0.1]/", "[::ffff:0:1]"),
        ("https://b\u00fccher.example/", "xn--bcher-kva.example"),
        ("https://XN--BCHER-KVA.example/", "xn--bcher-kva.example"),
        ("https://stra\u00dfe.example/", "xn--strae-oqa.example"),
        ("https://a_b.example/", "a_b.example"),
        ("https://-\u00fc-.example/", "-\u00fc-.example"),  # no name at all, but a request all the same
        ("https://api.example:99999/", ""),
        ("ftp://api.example/", ""),
        ("api.example", ""),
        ("", ""),
    ],
)
def test_a_host_is_written_as_in_the_url(url: str, host: str) -> None:
    assert written_host(url) == host


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("api.example", ("api.example", None)),
        (" api.example", None),
        ("API.example.", ("api.example", None)),
        ("api.example:8080", ("api.example", 8080)),
        ("api.example:443", ("api.example", 443)),
        ("https://api.example", ("api.example", 443)),
        ("http://api.example/", ("api.example", 80)),
        ("https://me:secret@api.example:8443/", ("api.example", 8443)),
        ("api.example/", ("api.example", None)),
        ("api.example/v1", None),
        ("https://api.example/v1", None),
        ("::1", ("[::1]", None)),
        ("[::1]:8080", ("[::1]", 8080)),
        ("b\u00fccher.example", ("xn--bcher-kva.example", None)),
        ("localhost", ("localhost", None)),
        ("api.example/gateway", None),
        ("https://api.example/api/v1", None),
        ("api.example?x=1", None),
        ("api.example#x", None),
        ("api..example", None),
        ("ftp://api.example", None),
        ("api.example:99999", None),
        ("a b", None),
        ("api.example\n", None),
        ("*", None),
        ("//api.example", None),
        ("", None),
    ],
)
def test_what_a_setting_may_name(text: str, place: tuple[str, int | None] | None) -> None:
    found = place_of(text)
    assert (None if found is None else (found.host, found.port)) == place


NAMES = st.sampled_from(["api.example", "API.Example.", "[::1]", "[2001:0DB8::1]", "b\u00fccher.example", "127.0.0.1"])


@given(scheme=st.sampled_from(["http", "https"]), name=NAMES, port=st.sampled_from(["", ":80", ":443", ":8080"]))
def test_what_a_report_names_can_be_pasted_into_a_setting(scheme: str, name: str, port: str) -> None:
    url = f"{scheme}://{name}{port}"
    target = target_of(url)
    assert target is not None
    names = spellings(written_host(url), target.host)
    for written in (written_host(url), url, f"{name}{port}"):
        place = place_of(written)
        assert place is not None
        assert place.name in names


@given(
    ours=st.sampled_from(["http", "https"]),
    theirs=st.sampled_from(["http", "https"]),
    port=st.sampled_from([80, 443]),
    written=st.booleans(),
)
def test_a_setting_with_a_scheme_is_not_the_other_ones(ours: str, theirs: str, port: int, written: bool) -> None:
    own = {"http": 80, "https": 443}
    asked = f"{theirs}://api.example:{port}"
    target = target_of(asked)
    place = place_of(f"{ours}://api.example" + f":{port}" * (written or own[ours] != port))
    assert target is not None
    assert place is not None
    assert (place.name in spellings(written_host(asked), target.host)) == (ours == theirs)


def test_http_and_https_of_one_host_never_share_a_scope() -> None:
    scopes = {target_of(f"{url}/") for url in ("http://h", "https://h", "http://h:443", "https://h:80")}
    assert {target.host for target in scopes if target} == {"h", "h:80", "h:443"}
