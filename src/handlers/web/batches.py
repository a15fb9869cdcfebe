"""The operations on batches, each from a request to a verb of core and back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Header, Path
from pydantic import BaseModel
from starlette.responses import Response

from core.batch_view import BatchView, view
from core.batches import view_batch
from core.cancel_batch import cancel_batch
from core.errors import BatchNotFound
from core.register import MAX_KEY_LENGTH
from core.register_batch import register_batch
from handlers.web import batch_models, log_keys
from handlers.web.sign_in import caller

if TYPE_CHECKING:
    from handlers.web.routes import Operations

# A batch goes on for minutes, and to show one costs more than to show a task.
POLL_SECONDS = {"local": 2, "aws": 10}

_BATCH_ID = re.compile(r"[A-Za-z0-9-]{1,64}")

BatchId = Annotated[str, Path(description="The `batch_id` that the registration answered with.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="A name of your own for this request, such as a UUID. Sent again with the same body, it is "
        f"answered with the batch that it made the first time. 1 to {MAX_KEY_LENGTH} printable ASCII characters; held "
        "as long as the batch.",
        examples=["order-4711-all-files"],
    ),
]


@dataclass(frozen=True)
class Batches:
    of: "Operations"  # what the routes need

    def register(self, body: batch_models.BatchRegistration, idempotency_key: IdempotencyKey = None) -> Response:
        services, who, now = self.of.services, caller(), self.of.clock()
        batch, again, sources = register_batch(
            services,
            body.to_wanted(),
            settings=self.of.live.current(now=now),
            batch_id=self.of.new_id(),
            correlation_id=log_keys.correlation_id(),
            now=now,
            idempotency_key=idempotency_key,
            key_name=who.name,
            most_live=who.most_live,
            uploads=self.of.of_uploads.uploads(who),
            own_presets=self.of.own_presets,
        )
        log_keys.note(batch_id=batch.batch_id)
        if not again:
            self.of.count("BatchesRegistered")
        members = services.store.members(batch.batch_id) if again else ()
        found = view(batch, members, sources)
        shown = batch_models.shown_registered(found, (source.name for source in sources))
        return self._answered(found, shown, 200 if again else 202, {"Location": f"/ffmpeg/batches/{batch.batch_id}"})

    def show(self, batch_id: BatchId) -> Response:
        return self._shown(checked(batch_id), 200)

    def cancel(self, batch_id: BatchId) -> Response:
        cancel_batch(self.of.services, checked(batch_id), now=self.of.clock())
        self.of.count("BatchesCanceled")
        return self._shown(batch_id, 202)

    def _shown(self, batch_id: str, status: int) -> Response:
        found = view_batch(self.of.services, batch_id)
        return self._answered(found, batch_models.shown_batch(found), status)

    def _answered(
        self, found: BatchView, shown: BaseModel, status: int, headers: dict[str, str] | None = None
    ) -> Response:
        poll = {} if found.status.ended else {"Retry-After": str(POLL_SECONDS[self.of.settings.backend])}
        body = shown.model_dump_json()
        return Response(body, status_code=status, headers={**poll, **(headers or {})}, media_type="application/json")


def install(
    app: FastAPI, batches: Batches, *, json_body: Callable[..., Any], words: Callable[[str], dict[str, Any]]
) -> None:
    add: Callable[..., Any] = app.add_api_route
    post_json = {"methods": ["POST"], "dependencies": [Depends(json_body)]}
    add("/ffmpeg/batches", batches.register, **post_json, **words("register_batch"))
    add("/ffmpeg/batches/{batch_id}", batches.show, methods=["GET"], **words("batch"))
    add("/ffmpeg/batches/{batch_id}/cancel", batches.cancel, methods=["POST"], **words("cancel_batch"))


def checked(batch_id: str) -> str:
    """Raises BatchNotFound for what cannot be an id, and is not worth a question to the store."""
    if not _BATCH_ID.fullmatch(batch_id):
        raise BatchNotFound
    log_keys.note(batch_id=batch_id)
    return batch_id
