"""Functions made, changed and deleted through the API.

A function made here names a target of ours instead of bringing code: the handler ``module.function`` (or
``module:function``) of a module that workers can import, or an ``http://`` address in place of a container image. An
archive is accepted, as deployment tools send one, and not looked into.
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import orjson

from streams.functions.file import kafka_topic
from streams.functions.stored import Entry
from streams.gateway.aws import shown
from streams.gateway.aws.account import LATEST, Account, new_revision
from streams.gateway.aws.names import FUNCTION, NAME_CHARS_MAX, Named, is_version
from streams.gateway.aws.versions import DESCRIPTION_CHARS_MAX, LIST_MAX, publish, without_version
from streams.gateway.aws.wire import (
    Members,
    conflict,
    fault,
    invalid,
    no_content,
    page,
    paged,
    reply,
    stale_revision,
    validation,
)
from streams.gateway.edge import Refused, Reply, Request, Route

CREATE_BYTES_MAX = 69_905_067
"""An archive of 50 MB in base64 [V]."""
TIMEOUT_MAX_S = 5_400
MEMORY_MIN_MB, MEMORY_MAX_MB = 128, 32_768
ENVIRONMENT_BYTES_MAX = 4_096

_ROLE = re.compile(r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+", re.ASCII)
_HANDLER = re.compile(r"[^\s]+")
_DEAD_LETTER = re.compile(r"kafka://.*|(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()", re.ASCII)
_DEAD_LETTER_SHOWN = r"(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()"
_OF_FUNCTION = ("name", "provider", "qualifiers")


class Definitions:
    """The operations, by AWS's names."""

    def __init__(self, account: Account) -> None:
        self._account = account
        functions = "/2015-03-31/functions"
        function = f"{functions}/{{FunctionName}}"
        self.routes = (
            Route("POST", functions, self.create_function, CREATE_BYTES_MAX),
            Route("GET", functions, self.list_functions),
            Route("GET", function, self.get_function),
            Route("DELETE", function, self.delete_function),
            Route("GET", f"{function}/configuration", self.get_function_configuration),
            Route("PUT", f"{function}/configuration", self.update_function_configuration),
            Route("PUT", f"{function}/code", self.update_function_code, CREATE_BYTES_MAX),
        )

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get_function(self, request: Request) -> Reply:
        named = self._account.named(request)
        function = self._account.require(named.name, named.qualifier)
        entry = self._account.entry(named.name)
        document = {"Configuration": self._shown(named), "Code": shown.code(function.target)}
        if tags := entry.api.get("tags"):
            document["Tags"] = tags
        if function.reserved_concurrency is not None:
            document["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        return reply(request, 200, document)

    async def get_function_configuration(self, request: Request) -> Reply:
        return reply(request, 200, self._shown(self._account.named(request)))

    async def list_functions(self, request: Request) -> Reply:
        wanted = request.query.get("FunctionVersion")
        if wanted not in (None, "ALL"):
            raise validation([fault(wanted, "functionVersion", "satisfy enum value set: [ALL]")])
        names, marker = page(request, self._account.names(), LIST_MAX)
        functions: list[dict[str, Any]] = []
        for name in names:
            if wanted is None:
                functions.append(self._account.shown(name, status=False))
                continue
            versions = [q for q in self._account.qualifiers(name) if q == LATEST or is_version(q)]
            functions += [self._account.shown(name, q, qualified=True, status=False) for q in versions]
        return reply(request, 200, paged({"Functions": functions}, marker))

    def _shown(self, named: Named) -> dict[str, Any]:
        return self._account.shown(named.name, named.qualifier, qualified=named.qualifier is not None)

    # -- changing ------------------------------------------------------------------------------------------------------

    async def create_function(self, request: Request) -> Reply:
        body = Members.of(request)
        reference = body.text("FunctionName", required=True) or ""
        body.text("Role", required=True)
        if "Code" not in body:
            body.fault(fault(None, "code", "not be null"))
        code = _Code.of(body.structure("Code"), body.text("PackageType", choices=("Zip", "Image")))
        settings, kept = self._configured(body, {})
        if not reference:
            body.check()
        named = self._account.named_by(reference, None, FUNCTION, body.faults)
        name = self._new_name(reference, named)
        handler = body.text("Handler")
        if code.url is None and (handler is None or "Runtime" not in body):
            raise invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        settings |= {"url": code.url} if code.url is not None else {"target": _target(handler or "")}
        kept |= {"CodeSha256": code.sha256, **self._changed_now()}
        api = {"configuration": kept, "tags": body.texts("Tags"), "changed": new_revision()}
        async with self._account.changing:
            if self._account.qualifiers(name):
                raise conflict(f"Function already exist: {name}")
            await self._account.forget_configurations(name)
            entry = self._over_the_file(name, {"timeout_s": shown.TIMEOUT_S, **settings})
            await self._account.store(name, None, dataclasses.replace(entry, api=api))
            version = await publish(self._account, name, None) if body.flag("Publish") else None
        return reply(request, 201, self._account.shown(name, version))

    async def update_function_configuration(self, request: Request) -> Reply:
        body = Members.of(request)
        named = self._account.named(request, FUNCTION, faults=self._faults(body))
        async with self._account.changing:
            current = self._require_revision(named, body)
            entry = self._account.entry(named.name)
            settings, kept = self._configured(body, shown.kept(entry, LATEST))
            handler = body.text("Handler")
            if handler is not None and current["PackageType"] == "Zip":
                settings |= {"target": _target(handler), "isolation": None}
            await self._change(named.name, entry, settings, kept)
        return reply(request, 200, self._account.shown(named.name))

    async def update_function_code(self, request: Request) -> Reply:
        body = Members.of(request)
        code = _Code.of(body, None)
        named = self._account.named(request, FUNCTION, faults=body.faults)
        async with self._account.changing:
            current = self._require_revision(named, body)
            is_image = current["PackageType"] == "Image"
            if code.url is None and is_image:
                raise invalid("Please provide ImageUri when updating a function with packageType Image.")
            if code.url is not None and not is_image:
                raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
            if body.flag("DryRun"):
                return reply(request, 200, current)
            entry = self._account.entry(named.name)
            kept = {**shown.kept(entry, LATEST), "CodeSha256": code.sha256}
            settings = {"url": code.url} if code.url is not None else {}
            await self._change(named.name, entry, settings, kept)
            version = await publish(self._account, named.name, None) if body.flag("Publish") else None
        return reply(request, 200, self._account.shown(named.name, version, qualified=version is not None))

    async def delete_function(self, request: Request) -> Reply:
        named = self._account.named(request)
        name, qualifier = named.name, named.qualifier
        if qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        if qualifier is not None and not is_version(qualifier):
            raise invalid("Deletion of aliases is not currently supported.")
        async with self._account.changing:
            self._account.require(name)
            if qualifier is not None:
                await self._delete_version(name, qualifier)
            else:
                if self._account.file_table(name) is None:
                    await self._account.forget(name, None)
                else:
                    await self._account.store(name, None, Entry(settings=None))
                await self._account.forget_configurations(name)
        return no_content(request)

    async def _delete_version(self, name: str, version: str) -> None:
        """One that is not there is no error [V]."""
        qualifiers = self._account.qualifiers(name)
        if version not in qualifiers:
            return
        aliases = [q for q, function in qualifiers.items() if q != version and shown.version_of(function) == version]
        if aliases:
            names = ", ".join(sorted(aliases))
            raise conflict(f"Unable to delete version because the following aliases reference it: [{names}]")
        await self._account.store(name, None, without_version(self._account.entry(name), version))
        await self._account.forget(name, version)

    async def _change(self, name: str, entry: Entry, settings: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
        """Store *settings* over those of *entry*, and what is *kept* only to be shown."""
        api = {**entry.api, "configuration": {**kept, **self._changed_now()}, "changed": new_revision()}
        entry = dataclasses.replace(entry, settings={**(entry.settings or {}), **settings}, api=api)
        await self._account.store(name, None, entry)

    def _changed_now(self) -> dict[str, str]:
        return {"LastModified": shown.time_text(self._account.services.now_ms()), "RevisionId": new_revision()}

    def _require_revision(self, named: Named, body: Members) -> dict[str, Any]:
        """The function as it is, if it is what the caller thinks. Raises `Refused`."""
        current = self._account.shown(named.name)
        revision = body.text("RevisionId")
        if revision and revision != current["RevisionId"]:
            raise stale_revision()
        return current

    def _new_name(self, reference: str, named: Named) -> str:
        if named.qualifier is not None:
            raise invalid(f"Unsupported function name: {reference}")
        if reference == named.name and len(reference) > NAME_CHARS_MAX:
            wrong = fault(reference, "functionName", f"have length less than or equal to {NAME_CHARS_MAX}")
            raise invalid(f"1 validation error detected: {wrong}")
        return named.name

    def _over_the_file(self, name: str, settings: dict[str, Any]) -> Entry:
        """An entry that leaves nothing of what the file says of a function of this name, which was deleted."""
        table = self._account.file_table(name) or {}
        unset = {key: None for key in table if key not in _OF_FUNCTION}
        return Entry(settings={**unset, **settings}, qualifiers=dict.fromkeys(table.get("qualifiers", {})))

    # -- what a request says -------------------------------------------------------------------------------------------

    def _faults(self, body: Members) -> list[str]:
        """The broken constraints of a configuration."""
        self._configured(body, {})
        faults, body.faults = body.faults, []
        return faults

    def _configured(self, body: Members, before: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Our settings, and the members that are only shown again, over those of *before*."""
        kept = dict(before)
        texts = {
            "Runtime": body.text("Runtime"),
            "Role": body.text("Role", pattern=_ROLE),
            "Handler": body.text("Handler", pattern=_HANDLER, chars_max=128),
            "Description": body.text("Description", chars_max=DESCRIPTION_CHARS_MAX),
            "KMSKeyArn": body.text("KMSKeyArn"),
            "MemorySize": body.integer("MemorySize", MEMORY_MIN_MB, MEMORY_MAX_MB),
            "Architectures": body.shown("Architectures", list),
            "TracingConfig": body.shown("TracingConfig", dict),
            "EphemeralStorage": body.shown("EphemeralStorage", dict),
            "LoggingConfig": body.shown("LoggingConfig", dict),
            "FileSystemConfigs": body.shown("FileSystemConfigs", list),
        }
        kept |= {name: value for name, value in texts.items() if value is not None}
        if "Environment" in body:
            kept["Environment"] = {"Variables": _environment(body)}
        if (layers := body.shown("Layers", list)) is not None:
            kept["Layers"] = [{"Arn": layer, "CodeSize": 0} for layer in layers]
        if (network := body.shown("VpcConfig", dict)) is not None:
            kept["VpcConfig"] = {"SubnetIds": [], "SecurityGroupIds": [], **network, "VpcId": ""}
        if (image := body.shown("ImageConfig", dict)) is not None:
            kept["ImageConfigResponse"] = {"ImageConfig": image}
        if "SnapStart" in body:
            apply_on = body.structure("SnapStart").text("ApplyOn", choices=("PublishedVersions", "None"))
            kept["SnapStart"] = {"ApplyOn": apply_on or "None", "OptimizationStatus": "Off"}
        settings: dict[str, Any] = {}
        timeout_s = body.integer("Timeout", 1, TIMEOUT_MAX_S)
        if timeout_s is not None:
            settings["timeout_s"] = timeout_s
        letters = body.structure("DeadLetterConfig")
        address = letters.text("TargetArn", pattern=_DEAD_LETTER, shown_pattern=_DEAD_LETTER_SHOWN)
        if address is not None:  # an empty structure leaves things as they are, an empty address ends them [V, N]
            if not letters.faults:
                self._check_dead_letter(address)
            settings["dead_letter"] = address or None
        return settings, kept

    def _check_dead_letter(self, address: str) -> None:
        """Raises `Refused` for what is no standard queue or topic of this region [T]."""
        if not address or kafka_topic(address) is not None:
            return
        if address.startswith("kafka:"):
            raise invalid(f"Invalid dead letter queue ARN: {address} is no topic that dead letters may go to")
        service, region = address.split(":")[2:4]
        if service not in ("sqs", "sns"):
            reason = "The service specified by the TargetArn is not supported for dead letter configuration."
        elif region != self._account.aws.region:
            reason = (
                "The resource specified by the TargetArn must be in the same region as the Lambda function it's "
                "associated with."
            )
        elif address.endswith(".fifo"):
            kind = "SQS queue" if service == "sqs" else "SNS topic"
            reason = f"FIFO {kind} is not supported for dead letter configuration"
        else:
            return
        raise invalid(f"Invalid dead letter queue ARN: {reason}")


class _Code:
    """Where the code of a function is said to be."""

    def __init__(self, url: str | None, sha256: str) -> None:
        self.url = url
        """Of a function behind a URL; None for an archive."""
        self.sha256 = sha256

    @classmethod
    def of(cls, code: Members, package: str | None) -> _Code:
        url, archive = code.text("ImageUri"), code.text("ZipFile")
        if package == "Image" and url is None:
            raise invalid("Please provide ImageUri when creating a function with packageType Image.")
        if url is not None and package == "Zip":
            raise invalid("Please don't provide ImageUri when creating a function with packageType Zip.")
        if url is not None and not url.startswith(("http://", "https://")):
            raise invalid(
                f"{url} is not a function that can be reached: ImageUri is the http:// or https:// address of a "
                "running function here, for instance of a container with the Runtime Interface Emulator."
            )
        if archive is None:
            return cls(url, shown.NO_CODE)
        try:
            return cls(url, shown.sha256(b64decode(archive, validate=True)))
        except ValueError:
            raise Refused(400, "SerializationException", "ZipFile can not be converted to a Blob") from None


def _target(handler: str) -> str:
    """``module:function`` of what AWS's Python runtime reads as ``folder/module.function``."""
    if ":" in handler:
        return handler
    module, _, function = handler.rpartition(".")
    if not module:
        raise invalid(f"Handler '{handler}' names nothing that can be run here: write module.function.")
    return f"{module.replace('/', '.')}:{function}"


def _environment(body: Members) -> dict[str, str]:
    variables = body.structure("Environment").texts("Variables")
    text = orjson.dumps(variables)
    if len(text) > ENVIRONMENT_BYTES_MAX:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {text.decode()}"
        )
    return variables
