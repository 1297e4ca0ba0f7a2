"""The application: the site's files, and the JSON API under /api.

Every path of the API is described in /api/openapi.json. What needs the model goes through one `ModelWorker`; pictures
are decoded and preprocessed on other threads, few at a time, so that memory stays bounded.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse, Response
from torch import Tensor

import secondlens
from secondlens.atlas.store import Atlas
from secondlens.data.sources import ImageSource
from secondlens.errors import AtlasError, ModelError, SecondLensError
from secondlens.viewer.card import full_card
from secondlens.viewer.heat import heat_maps
from secondlens.viewer.server import analysis
from secondlens.viewer.server.analysis import Analysis
from secondlens.viewer.server.answers import (
    Card,
    ConceptsAnswer,
    Found,
    HeatAnswer,
    ImageAnswer,
    Problem,
    Status,
    WaterfallAnswer,
)
from secondlens.viewer.server.guard import Access, Guard
from secondlens.viewer.server.uploads import TYPES, Limits, Refused, decode_upload, read_body
from secondlens.viewer.server.worker import Busy, Handler, ModelWorker
from secondlens.viewer.site import content_type

DECODERS = 2
UPLOADING = 16
"""Uploads that are read at once; more wait their turn, so that bodies in memory stay below this times the limit."""

MAX_TEXT = 300
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "The request cannot be carried out.",
        401: "A token is needed.",
        403: "Another site's page asked.",
        404: "There is no such thing.",
        421: "The Host header names another server.",
        422: "A parameter is out of range.",
        503: "Too many requests wait.",
    }.items()
}
UPLOADS = PROBLEMS | {
    status: {"model": Problem, "description": why}
    for status, why in {408: "Too slow.", 413: "Too large.", 415: "Of another type."}.items()
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary", "minLength": 1}} for kind in TYPES},
    }
}
Text = Annotated[str, Query(min_length=1, max_length=MAX_TEXT, description="A text; of a classifier, a label.")]
Count = Annotated[int, Query(ge=1, le=200)]
Number = Annotated[int, PathParameter(ge=0, le=2**31 - 1)]


@runtime_checkable
class Files(Protocol):
    """The files of a site."""

    @property
    def names(self) -> Sequence[str]:
        """All of them."""
        ...

    def read(self, name: str) -> bytes:
        """One of them; `KeyError` for another name."""
        ...


@dataclass
class Served:
    """What a server shows and can do. atlas: None for an exported site without its atlas."""

    files: Files
    title: str
    atlas: Atlas | None = None
    analysis: Analysis | None = None
    source: ImageSource | None = None
    heat_images: int = 12
    limits: Limits = field(default_factory=Limits)
    handlers: dict[str, Handler] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.analysis is None:
            return
        model = self.analysis.model
        self.handlers |= {"image": self.analysis.images, "heat": self.analysis.heat}
        if model.text_encoder is not None:
            self.handlers["search"] = self.analysis.search
        if self.source is not None:
            self.handlers["maps"] = self._maps
        for name, handler in {
            "concepts": analysis.concepts(model, self.analysis.atlas, self.analysis.meters),
            "waterfall": analysis.waterfall(model),
        }.items():
            if handler is not None:
                self.handlers[name] = handler

    def status(self) -> dict[str, Any]:
        """See `Status`."""
        atlas = self.atlas
        return {
            "secondlens": secondlens.__version__,
            "title": self.title,
            "layers": [] if atlas is None else atlas.layers,
            "neurons": 0 if atlas is None else atlas.manifest.model.neurons,
            "model": self.analysis is not None,
            "texts": "search" in self.handlers,
            "heat": "maps" in self.handlers,
            "concepts": "concepts" in self.handlers,
            "waterfall": "waterfall" in self.handlers,
            "max_bytes": self.limits.bytes,
            "max_pixels": self.limits.pixels,
        }

    def _maps(self, asked: Sequence[tuple[int, int]]) -> list[bytes]:
        assert self.analysis is not None
        assert self.source is not None
        atlas, model = self.analysis.atlas, self.analysis.model
        found = []
        for layer, neuron in asked:
            chosen = torch.tensor([neuron])
            maps = heat_maps(model, atlas, self.source, [layer], images=self.heat_images, neurons=chosen)
            found.append(maps[layer].pack(slice(0, 1)))
        return found


def create_app(served: Served, access: Access) -> FastAPI:
    """The ASGI application."""
    # Made at the first question, so that an application that is closed and entered again has one again.
    workers: list[ModelWorker] = []
    uploading, decoding = asyncio.Semaphore(UPLOADING), asyncio.Semaphore(DECODERS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        while workers:
            workers.pop().close()

    app = FastAPI(
        title="secondlens viewer", version=secondlens.__version__, lifespan=lifespan,
        openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.add_middleware(Guard, access=access)
    _handle_errors(app)
    names = frozenset(served.files.names)

    def atlas_or_404() -> Atlas:
        if served.atlas is None:
            raise HTTPException(404, "this is an exported site: it has no atlas behind it")
        return served.atlas

    async def ask(kind: str, given: Any) -> Any:
        if kind not in served.handlers:
            raise HTTPException(404, f"this server cannot do that: it has no {kind}; start it with --model")
        if not workers:
            workers.append(ModelWorker(served.handlers))
        return await asyncio.wrap_future(workers[0].submit(kind, given))

    async def pixels_of(request: Request, kind: str) -> Tensor:
        if kind not in served.handlers or served.analysis is None:
            raise HTTPException(404, f"this server cannot do that: it has no {kind}; start it with --model")
        async with uploading:
            body = await read_body(request, served.limits)
            async with decoding:
                return await asyncio.to_thread(partial(_pixels, served.analysis, body, served.limits))

    @app.get("/api/status", responses=PROBLEMS)
    def status() -> Status:
        """What this server can do."""
        return Status(**served.status())

    @app.get("/api/neurons/{layer}/{neuron}", responses=PROBLEMS)
    def neuron(layer: Number, neuron: Number, pool: Annotated[str | None, Query(max_length=100)] = None) -> Card:
        """Everything known of a neuron."""
        try:
            return Card(**full_card(atlas_or_404(), layer, neuron, pool))
        except AtlasError as error:
            raise HTTPException(404, str(error)) from error

    @app.get("/api/search", responses=PROBLEMS)
    async def search(
        text: Text,
        layer: Annotated[int | None, Query(ge=0, le=10_000)] = None,
        limit: Count = 20,
        absolute: bool = False,
    ) -> Found:
        """Neurons whose directions score highest for a text, by the model's text tower."""
        return Found(text=text, neurons=await ask("search", (text, layer, limit, absolute)))

    @app.get(
        "/api/heat/{layer}/{neuron}",
        response_class=Response,
        responses=PROBLEMS | {200: {"content": {"application/octet-stream": {}}}},
    )
    async def heat(layer: Number, neuron: Number) -> Response:
        """Heat maps of a neuron on its top images, in the layout of `site.json`."""
        atlas_or_404().layer(layer).require_neuron(neuron)
        return Response(await ask("maps", (layer, neuron)), media_type="application/octet-stream")

    @app.post("/api/image", responses=UPLOADS, openapi_extra=BODY)
    async def image(request: Request) -> ImageAnswer:
        """Prediction and active neurons of a picture, which is the request's body."""
        return ImageAnswer(**await ask("image", await pixels_of(request, "image")))

    @app.post("/api/image/heat", responses=UPLOADS, openapi_extra=BODY)
    async def image_heat(request: Request, text: Text, layer: Annotated[int, Query(ge=0, le=10_000)]) -> HeatAnswer:
        """Where in a picture a text's score comes from, through a layer's neurons."""
        atlas_or_404().layer(layer)
        return HeatAnswer(**await ask("heat", (await pixels_of(request, "heat"), text, layer)))

    @app.post("/api/image/concepts", responses=UPLOADS, openapi_extra=BODY)
    async def image_concepts(request: Request, limit: Count = 12) -> ConceptsAnswer:
        """Texts that the active neurons of a picture speak of."""
        return ConceptsAnswer(**await ask("concepts", (await pixels_of(request, "concepts"), limit)))

    @app.post("/api/image/waterfall", responses=UPLOADS, openapi_extra=BODY)
    async def image_waterfall(
        request: Request, text: Text, against: Annotated[str | None, Query(min_length=1, max_length=MAX_TEXT)] = None
    ) -> WaterfallAnswer:
        """What made the score of a picture and a text, or of one text less another."""
        pixels = await pixels_of(request, "waterfall")
        return WaterfallAnswer(**await ask("waterfall", (pixels, text, against)))

    @app.get("/{name:path}", include_in_schema=False)
    def page(name: str) -> Response:
        name = name + "index.html" if name == "" or name.endswith("/") else name
        if name not in names:
            return JSONResponse({"detail": "there is no such file"}, 404)
        return Response(served.files.read(name), media_type=content_type(name))

    return app


def _pixels(analysis: Analysis, body: bytes, limits: Limits) -> Tensor:
    return analysis.model.preprocess([decode_upload(body, limits)])


def _handle_errors(app: FastAPI) -> None:
    """Errors with a reason as JSON, with the status that says whose they are."""

    def answer(status: Callable[[Any], int]) -> Callable[[Request, Any], JSONResponse]:
        return lambda request, error: JSONResponse({"detail": " ".join(str(error).split())}, status(error))

    app.add_exception_handler(Refused, answer(lambda error: error.status))
    app.add_exception_handler(Busy, answer(lambda error: 503))
    app.add_exception_handler(AtlasError, answer(lambda error: 404))
    app.add_exception_handler(ModelError, answer(lambda error: 400))
    app.add_exception_handler(SecondLensError, answer(lambda error: 400))
