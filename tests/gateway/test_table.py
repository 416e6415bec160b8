"""How a path finds its handler."""

from streams.gateway.edge import Api, Found, Reply, Request, Route, Table


async def handle(request: Request) -> Reply:
    return Reply(200)


class Some:
    def __init__(self, *routes: Route) -> None:
        self.routes = routes


NAMED = Route("GET", "/functions/{name}", handle)
PART = Route("PUT", "/functions/{name}/versions/{version}", handle)
OTHER = Route("GET", "/v1/things", handle)
API: Api = Some(NAMED, PART)  # type: ignore[assignment]
V1: Api = Some(OTHER)  # type: ignore[assignment]
TABLE = Table({"v1": V1}, API)


def test_open_segments_are_decoded_after_the_path_is_split() -> None:
    assert TABLE.find("PUT", "/functions/arn%3Aaws%2Fx/versions/%24LATEST") == Found(
        API, PART, ("arn:aws/x", "$LATEST")
    )


def test_a_trailing_slash_means_nothing() -> None:
    assert TABLE.find("GET", "/functions/f/").route is NAMED


def test_the_first_segment_tells_the_api() -> None:
    assert TABLE.find("GET", "/v1/things") == Found(V1, OTHER)
    assert TABLE.find("GET", "/v1/functions") == Found(V1, None)


def test_another_method_is_told_from_no_such_path() -> None:
    assert TABLE.find("DELETE", "/functions/f") == Found(API, None, (), True)
    assert TABLE.find("GET", "/functions") == Found(API, None)
    assert TABLE.find("GET", "") == Found(API, None)


def test_what_is_not_utf_8_is_replaced_and_not_an_error() -> None:
    assert TABLE.find("GET", "/functions/%E4%ZZ").parameters == ("\ufffd%ZZ",)
