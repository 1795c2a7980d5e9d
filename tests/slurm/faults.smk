# Four jobs that go wrong in a way of their own; resources, records and refusals are those of the workflow.
configfile: "config/config.yaml"


pathvars:
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


include: "../rules/common.smk"
include: "../rules/ending.smk"


FAULTS = {  # MB and minutes of the first attempt
    "hungry": (700, 10),
    "slow": (600, 2),
    "cancelled": (600, 60),
    "mistaken": (600, 10),
}
for name, (memory, minutes) in FAULTS.items():
    RESOURCES[name] = {
        "mem_mb": memory,
        "mem_mb_per_input_mb": 0,
        "minutes": minutes,
        "minutes_per_input_mb": 0,
    }


localrules:
    faults,


rule faults:
    """All of them."""
    input:
        expand("<results>/{fault}.txt", fault=FAULTS),


for name in FAULTS:

    rule:
        """One job that goes wrong."""
        name:
            name
        output:
            text=f"<results>/{name}.txt",
        log:
            local(f"<logs>/{name}.log"),
        benchmark:
            local(f"<benchmarks>/{name}.tsv")
        resources:
            **requests(name),
        params:
            fault=name,
        script:
            "../scripts/faults.py"
