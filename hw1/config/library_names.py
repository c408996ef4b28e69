"""Names of other libraries that a recipe may use: torchvision's data sets and timm's optimizers."""

TORCH_SETS = (
    "caltech101", "caltech256", "cifar10", "cifar100", "country211", "dtd", "eurosat", "fashion_mnist", "fgvc_aircraft", "flowers102",
    "food101", "gtsrb", "imagenet", "imagenette", "inaturalist", "kmnist", "mnist", "oxford_iiit_pet", "places365", "qmnist",
    "stanford_cars", "stl10", "sun397", "svhn",
)  # fmt: skip
"""Names that may follow `torch/` in `data.dataset`."""
DATASET_PATTERN = rf"^(torch/({'|'.join(TORCH_SETS)})|(hfds|wds)/[\w ./+-]+)$"  # for editors; hw1.config.contradictions checks more
OPTIMIZERS = (
    "adabelief", "adadelta", "adafactor", "adafactorbv", "adafactorbvc", "adagrad", "adam", "adamax", "adamc", "adamp", "adamuon", "adamw",
    "adamwlegacy", "adan", "adanw", "adopt", "adoptc", "adoptw", "cadafactor", "cadafactorbv", "cadafactorbvc", "cadamc", "cadamp",
    "cadamw", "cadan", "cadanw", "cadopt", "cadoptc", "cadoptw", "clamb", "clambw", "claprop", "clion", "clionc", "cmars", "cnadamc",
    "cnadamw", "crmsproptf", "csgdc", "csgdp", "csgdw", "lamb", "lambc", "lambcd", "lambcw", "lambw", "laprop", "lapropc", "larc", "lars",
    "lion", "lionc", "madgrad", "madgradw", "mars", "momentum", "muon", "nadam", "nadamc", "nadamlegacy", "nadamuon", "nadamw", "nesterov",
    "nesterovw", "nlarc", "nlars", "nmuon", "novograd", "novogradc", "novogradw", "radabelief", "radam", "radamlegacy", "radamw", "rmsprop",
    "rmsproptf", "rmsproptfc", "rmsproptfw", "sgd", "sgdc", "sgdp", "sgdw",
)  # fmt: skip
"""timm's optimizers that need no further package, no second derivatives and no random numbers of their own."""
