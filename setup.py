"""What pyproject.toml has no words for: the folder `recipes` is installed as the data of the package, `hw1/recipes`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hw1", "hw1.*"]), "hw1.recipes", "hw1.recipes.ablations"],
    package_dir={"hw1.recipes": "recipes"},
)
