"""The functions that a process knows, found by name, ARN or URN.

Each alias or version is a `Function` of its own, with its own retries, age and destinations: they are looked up by the
qualifier that was asked for and never inherited from the newest version (AWS and FC, measured).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from streams.core.model import Function, KafkaDestination, PythonTarget
from streams.providers import PROVIDERS
from streams.providers.base import Provider

CACHE_MAX = 10_000
"""Answers of `Functions.resolve` that are remembered; references come from outside and may be any text."""

TIMEOUT_S = 60.0
"""Time limit of a function that sets none."""


class Functions:
    """All functions, with their providers. It never changes: another configuration is another one (`live`)."""

    def __init__(
        self,
        functions: Iterable[Function] = (),
        providers: Mapping[str, Provider] = PROVIDERS,
        time_scale: float = 1.0,
    ) -> None:
        self.time_scale = time_scale
        """Already in the policies: every delay and age was multiplied by it."""
        self.providers = dict(providers)
        """The clouds with the settings of their tables."""
        self._by_name: dict[str, dict[str, dict[str, Function]]] = {}
        """Name, provider, qualifier."""
        for function in functions:
            self._by_name.setdefault(function.name, {}).setdefault(function.provider, {})[function.qualifier] = function
        self._resolved: dict[tuple[str, str | None], Function | str] = {}

    def __iter__(self) -> Iterator[Function]:
        """Every qualifier of every function."""
        for providers in self._by_name.values():
            for qualifiers in providers.values():
                yield from qualifiers.values()

    def resolve(self, reference: str, qualifier: str | None) -> Function | str:
        """The function that *reference* names (name, ``name:qualifier``, ARN or URN) in its version *qualifier*.

        When there is none, why: a sentence for whoever sent the invocation.
        """
        key = (reference, qualifier)
        found = self._resolved.get(key)
        if found is None:
            if len(self._resolved) >= CACHE_MAX:
                self._resolved.clear()
            found = self._resolved[key] = self._find(reference, qualifier)
        return found

    def gone(self, reference: str, qualifier: str | None) -> Function | None:
        """What is left of a function that `resolve` no longer finds: its address, and its provider's default rules.

        For an invocation that was accepted while the function was there. There is nothing to run. None when
        *reference* does not tell the provider, as a plain name does not.
        """
        parsed = [(p, found) for p in self.providers.values() if (found := p.parse_reference(reference)) is not None]
        if len(parsed) != 1:
            return None
        [(provider, found)] = parsed
        wanted = found.qualifier or qualifier or provider.latest
        return Function(
            name=found.name,
            qualifier=wanted,
            provider=provider.name,
            resource=provider.resource(found.name, wanted),
            executed_version=wanted,
            target=PythonTarget("", "", "inline"),
            timeout_ms=round(TIMEOUT_S * 1000),
            policy=provider.policy(None, None).scaled(self.time_scale),
        )

    def provider(self, name: str) -> Provider:
        """The provider with the settings of its table."""
        return self.providers[name]

    def of(self, provider: str) -> list[str]:
        """Names of all functions of *provider*, sorted."""
        return sorted(name for name, providers in self._by_name.items() if provider in providers)

    def qualifiers(self, provider: str, name: str) -> Mapping[str, Function]:
        """Every version and alias of a function by its qualifier; empty when there is no such function."""
        return self._by_name.get(name, {}).get(provider, {})

    def kafka_topics(self) -> frozenset[str]:
        """Topics outside our own that ended invocations are written to; none of them has our prefix."""
        targets = (t for function in self for t in (function.on_success, function.on_failure, function.dead_letter))
        return frozenset(target.topic for target in targets if isinstance(target, KafkaDestination))

    def _find(self, reference: str, qualifier: str | None) -> Function | str:
        found = self._candidates(reference)
        if not found:
            return "No function has this name."
        if len(found) > 1:
            return f"Functions of {' and '.join(found)} have this name: only an ARN or URN tells which one is meant."
        [(provider, (own_qualifier, qualifiers))] = found.items()
        if own_qualifier is not None and qualifier is not None and own_qualifier != qualifier:
            return "The qualifier in the function's name is not the specified qualifier."
        wanted = own_qualifier or qualifier or self.providers[provider].latest
        return qualifiers.get(wanted) or "The function has no such version or alias."

    def _candidates(self, reference: str) -> dict[str, tuple[str | None, dict[str, Function]]]:
        """By provider: the qualifier that *reference* holds, and the versions of the function it names."""
        if reference in self._by_name:
            return {provider: (None, qualifiers) for provider, qualifiers in self._by_name[reference].items()}
        candidates = {}
        for name, provider in self.providers.items():
            parsed = provider.parse_reference(reference)
            if parsed is not None and (qualifiers := self._by_name.get(parsed.name, {}).get(name)) is not None:
                candidates[name] = (parsed.qualifier, qualifiers)
        return candidates
