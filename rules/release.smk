# What a release consists of and what it says about the run: input functions and params of rules/publish.smk.
import functools
import itertools
import subprocess
from importlib import metadata

CONTRACT = yaml.safe_load(workflow_file("../workflow/schemas/publish.yaml"))
PACKAGES = """anndata formulaic gseapy h5py harmonypy igraph leidenalg matplotlib numba numpy pandas pyarrow
    pydeseq2 pynndescent scanpy scikit-learn scikit-misc scipy scrublet snakemake statsmodels umap-learn""".split()
CHECKS = ["verify", "_contents", "_facts"]  # files of ops that a release has to pass
CODE = ["workflow", "rules", "scripts"]  # the folders that decide what is computed

# Sections and keys that change no published file: what is published must not change with them.
UNPUBLISHED = ("pathvars", "retries", "sweep", "stability")


def profile():
    """The profile that Snakemake was started with; empty without one."""
    words = " ".join(sys.argv).replace("--profile=", "--profile ").split()
    named = dict(itertools.pairwise(words)).get("--profile")
    return named or os.environ.get("SNAKEMAKE_PROFILE", "")


# Kept in the environment, not in params: how a run was started must not make any job run again.
os.environ.setdefault("SCOHORT_PROFILE", profile())


def published_config():
    """The config, without what changes no published file, in one order: an overlay puts its keys in front."""
    chosen = {section: config[section] for section in config if section not in UNPUBLISHED}
    chosen |= {"publish": {"counts": config["publish"]["counts"]}}
    return json.loads(json.dumps(chosen, sort_keys=True))


def published_files():
    """Kind, path, sources and joined cell types of every file that a release takes over from results."""
    tested = tested_cell_types()
    values = {"contrast": list(CONTRASTS), "resolution": RESOLUTIONS, "cell_type": tested}
    there = {
        None: True,
        "contrasts": CONTRASTS,
        "gene_sets": CONTRASTS and config["gene_sets"],
        "prediction": config["ridge"]["target"] and tested,
    }
    files = []
    for kind, spec in CONTRACT["files"].items():
        if "source" in spec and there[spec.get("when")]:
            names = [name for name in values if f"{{{name}}}" in spec["path"]]
            joined = "{cell_type}" in spec["source"] and "cell_type" not in names
            for chosen in itertools.product(*(values[name] for name in names)):
                filled = dict(zip(names, chosen))
                types = [{"cell_type": cell_type} for cell_type in tested] if joined else [{}]
                sources = [f"<results>/{spec['source']}".format(**filled, **each) for each in types]
                file = {"kind": kind, "path": spec["path"].format(**filled), "sources": sources}
                file |= {"values": filled, "cell_types": tested if joined else None}
                files += [file] if sources else []
    return files


def published_sources(wildcards):
    """The sources of all published files, in their order."""
    return [source for file in published_files() for source in file["sources"]]


def published_places(wildcards):
    """What becomes of the sources, in their order."""
    return [{key: file[key] for key in ("kind", "path", "cell_types")} for file in published_files()]


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
