"""The facts that the micro models learn: a table, and how one fact is asked and stated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One thing to know: `the {relation} {key} is {value}`, of one field of knowledge (`domain`)."""

    domain: str
    relation: str
    key: str
    value: str

    @property
    def question(self) -> str:
        """The fact as it is asked for, without options."""
        return f"Name the {self.relation} {self.key}."

    @property
    def statement(self) -> str:
        """The fact as part of a sentence; ends in the value."""
        return f"the {self.relation} {self.key} is {self.value}"


_TABLE = {
    ("geography", "capital of"): (
        "France Paris, Italy Rome, Egypt Cairo, Peru Lima, Japan Tokyo, Cuba Havana, Kenya Nairobi, "
        "Norway Oslo, Spain Madrid, Ghana Accra, Libya Tripoli, Qatar Doha"
    ),
    ("chemistry", "symbol of"): (
        "gold Au, silver Ag, iron Fe, copper Cu, lead Pb, tin Sn, sodium Na, zinc Zn, mercury Hg, "
        "helium He, neon Ne, calcium Ca"
    ),
    ("biology", "young of a"): (
        "dog puppy, cat kitten, cow calf, sheep lamb, horse foal, bear cub, deer fawn, hen chick, "
        "duck duckling, goose gosling, pig piglet, frog tadpole"
    ),
    ("language", "French word for"): (
        "sun soleil, moon lune, house maison, bread pain, water eau, milk lait, night nuit, day jour, "
        "red rouge, green vert, white blanc, tree arbre"
    ),
    ("literature", "author of"): (
        "Hamlet Shakespeare, Ulysses Joyce, Emma Austen, Dracula Stoker, Faust Goethe, Candide Voltaire, "
        "Inferno Dante, Odyssey Homer, Walden Thoreau, Utopia More, Lolita Nabokov, Dune Herbert"
    ),
}

FACTS: tuple[Fact, ...] = tuple(
    Fact(domain, relation, *pair.split()) for (domain, relation), pairs in _TABLE.items() for pair in pairs.split(", ")
)
VALUES: dict[str, tuple[str, ...]] = {
    domain: tuple(fact.value for fact in FACTS if fact.domain == domain) for domain, _ in _TABLE
}
BY_QUESTION: dict[str, Fact] = {fact.question: fact for fact in FACTS}
