# What a release consists of and what it says about the run: input functions and params of rules/publish.smk.
import copy
import functools
import itertools
import subprocess
from importlib import metadata

CONTRACT = yaml.safe_load(workflow_file("../workflow/schemas/publish.yaml"))
PACKAGES = """anndata formulaic gseapy h5py harmonypy igraph leidenalg matplotlib numba numpy pandas pyarrow
    pydeseq2 pynndescent scanpy scikit-learn scikit-misc scipy scrublet snakemake statsmodels umap-learn""".split()
CODE = ["workflow", "rules", "scripts"]  # the folders that decide what is computed

# Sections and keys that change no published file: what is published must not change with them.
UNPUBLISHED = ("pathvars", "retries", "sweep", "stability")
UNPUBLISHED_KEYS = {"publish": ("keep",), "differential": ("cell_types_per_job",)}


def profile():
    """The profile that Snakemake was started with; empty without one."""
    words = " ".join(sys.argv).replace("--profile=", "--profile ").split()
    named = dict(itertools.pairwise(words)).get("--profile")
    return named or os.environ.get("SNAKEMAKE_PROFILE", "")


# Kept in the environment, not in params: how a run was started must not make any job run again.
os.environ.setdefault("SCOHORT_PROFILE", profile())


def published_config():
    """The config, without what changes no published file, in one order: an overlay puts its keys in front."""
    chosen = copy.deepcopy({section: config[section] for section in config if section not in UNPUBLISHED})
    for section, keys in UNPUBLISHED_KEYS.items():
        for key in keys:
            del chosen[section][key]
    return json.loads(json.dumps(chosen, sort_keys=True))


def published_files():
    """Kind, path, wildcards and sources of every file that a release takes over from results.

    Several sources are the parts of one table, which are joined.
    """
    values = {"contrast": list(CONTRASTS), "resolution": RESOLUTIONS}
    there = {
        None: True,
        "contrasts": CONTRASTS,
        "gene_sets": CONTRASTS and config["gene_sets"],
        "prediction": config["ridge"]["target"] and tested_cell_types(),
    }
    files = []
    for kind, spec in CONTRACT["files"].items():
        if "source" in spec and there[spec.get("when")]:
            names = [name for name in values if f"{{{name}}}" in spec["path"]]
            parts = differential_parts() if "{part}" in spec["source"] else [""]
            for chosen in itertools.product(*(values[name] for name in names)):
                filled = dict(zip(names, chosen))
                sources = [f"<results>/{spec['source']}".format(**filled, part=part) for part in parts]
                file = {"kind": kind, "path": spec["path"].format(**filled), "sources": sources}
                files += [file | {"values": filled}] if sources else []
    return files


def warning_tables(wildcards):
    """The table of every job of a step that may warn, as far as the config asks for the step."""
    paths = ["<results>/warnings/load.tsv", "<results>/warnings/cells.tsv"]
    paths += ["<results>/warnings/preprocess.tsv", "<results>/warnings/dimred.tsv"]
    paths += expand(
        ["<results>/warnings/qc/{shard}.tsv", "<results>/warnings/doublets/{shard}.tsv"], shard=SHARDS
    )
    if CONTRASTS:
        paths += expand(
            "<results>/warnings/differential/{contrast}/{part}.tsv",
            contrast=list(CONTRASTS),
            part=differential_parts(),
        )
    return paths


def published_sources(wildcards):
    """The sources of all published files, in their order."""
    return [source for file in published_files() for source in file["sources"]]


def published_places(wildcards):
    """What becomes of the sources, in their order."""
    return [
        {"kind": file["kind"], "path": file["path"], "parts": len(file["sources"])}
        for file in published_files()
    ]


# Not workflow.source_path, which gives a copy in a cache, without git and lock.
SNAKEFILE = workflow.current_basedir.join("../workflow/Snakefile").get_path_or_uri(secret_free=True)


@functools.cache
def project():
    """The folder of this project; None when the workflow is not a local folder."""
    folder = Path(SNAKEFILE).resolve().parent.parent
    return folder if (folder / "rules").is_dir() else None


@functools.cache
def git(*arguments):
    """What git prints about this project; None outside of a repository or without git."""
    command = ["git", "-C", str(project()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def commit():
    """The commit that is checked out, if this project is a repository."""
    top = git("rev-parse", "--show-toplevel")
    return git("rev-parse", "HEAD") if top and project() and Path(top).resolve() == project() else None


def dirty():
    """Whether the code differs from the commit; None without a commit."""
    return bool(git("status", "--porcelain", "--", *CODE)) if commit() else None


def code_sha256():
    """Digest of paths and contents of the code; None when the workflow is not a local folder."""
    if not project():
        return None
    ends = (".py", ".smk", ".yaml", ".j2", ".css", ".js", "Snakefile", "VERSION")
    paths = sorted(p for part in CODE for p in (project() / part).rglob("*") if p.name.endswith(ends))
    texts = [f"{path.relative_to(project()).as_posix()}\0{path.read_text()}\0" for path in paths]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def lock_sha256():
    """Digest of requirements.lock; None where a copy of the workflow came without it."""
    path = project() / "requirements.lock" if project() else None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else None
