"""Refusals and failures as pages, for those who came with a browser."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.explorer.rendering import page
from api.problems import Problem, incident
from chain.errors import FedWitnessError

_MACHINES = ("/v1/", "/static/", "/healthz", "/readyz", "/metrics")


def wants_page(request: Request) -> bool:
    """Tell whether somebody reads the answer: REST stays with problems (RFC 9457)."""
    is_read = "text/html" in request.headers.get("accept", "")
    return is_read and not request.url.path.startswith(_MACHINES)


def error_page(request: Request, problem: Problem) -> Response | None:
    """Render a problem; None for a client that does not read pages.

    Whoever only has to sign in is led there, and back.
    """
    if not wants_page(request):
        return None
    if problem.slug == "sign-in-needed":
        query = f"?{request.url.query}" if request.url.query else ""
        back = quote(request.url.path + query, safe="/")
        return RedirectResponse(f"/sign-in?next={back}", 303, {"Cache-Control": "no-store"})
    answer = page(
        request, "error.html", status=problem.status_code, is_private=True, problem=problem
    )
    answer.headers.update(problem.headers or {})
    return answer


class PageRoute(APIRoute):
    """A route whose unforeseen failures are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with failures turned into pages."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (HTTPException, RequestValidationError, FedWitnessError):
                raise
            except Exception as error:  # noqa: BLE001 - an incident, whatever it was
                problem = incident(error)
                return error_page(request, problem) or problem.response()

        return answer
