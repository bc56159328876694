"""Models by family: what each can be tuned by, and how it is made of an assignment."""

from __future__ import annotations

from typing import Any

from keeptune.search.space import Assignment, Condition
from tests.bench.search_quality.spaces import choice, real, when, whole

SVM = (
    choice("kernel", ("linear", "poly", "rbf", "sigmoid")),
    real("c", 1e-3, 1e3, log=True),
    real("gamma", 1e-4, 1e1, when("kernel", "poly", "rbf", "sigmoid"), log=True),
    whole("degree", 2, 5, when("kernel", "poly")),
    real("coef0", -1.0, 1.0, when("kernel", "poly", "sigmoid")),
)
RBF_SVM = (real("c", 1e-3, 1e4, log=True), real("gamma", 1e-6, 1e1, log=True))
EPSILON = real("epsilon", 1e-3, 1.0, log=True)


def svm(p: Assignment, *, regression: bool = False) -> Any:
    from sklearn.svm import SVC, SVR

    options = {name: value for name, value in p.items() if name not in ("c", "epsilon")}
    # Some never converge; a user too would set a limit.
    common = {"C": p["c"], "max_iter": 3000, "cache_size": 20, **options}
    if regression:
        return SVR(epsilon=p.get("epsilon", 0.1), **common)
    return SVC(random_state=0, **common)


MLP = (
    whole("hidden", 4, 64, log=True),
    real("rate", 1e-4, 1e-1, log=True),
    real("alpha", 1e-6, 1e1, log=True),
    whole("batch", 16, 128, log=True),
    real("beta1", 0.5, 0.99),
    choice("activation", ("relu", "tanh", "logistic")),
    whole("epochs", 3, 20),
)
DEEP_MLP = (
    *MLP,
    whole("layers", 1, 3),
    real("taper", 0.3, 2.0, Condition("layers", low=2, high=3)),
    real("beta2", 0.9, 0.9999),
    real("epsilon", 1e-9, 1e-2, log=True),
)
SOLVER_MLP = (
    *(p for p in MLP if p.name != "beta1"),
    choice("solver", ("adam", "sgd")),
    real("beta1", 0.5, 0.99, when("solver", "adam")),
    real("beta2", 0.9, 0.9999, when("solver", "adam")),
    real("momentum", 0.0, 0.99, when("solver", "sgd")),
    choice("nesterov", (True, False), when("solver", "sgd")),
    choice("schedule", ("constant", "invscaling"), when("solver", "sgd")),
    real("power", 0.1, 0.9, when("schedule", "invscaling")),
)


def mlp(p: Assignment, *, regression: bool = False) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    width, taper = int(p["hidden"]), float(p.get("taper", 1.0))
    layers = tuple(max(2, round(width * taper**i)) for i in range(int(p.get("layers", 1))))
    return (MLPRegressor if regression else MLPClassifier)(
        hidden_layer_sizes=layers,
        activation=p["activation"],
        solver=p.get("solver", "adam"),
        alpha=p["alpha"],
        batch_size=p["batch"],
        learning_rate=p.get("schedule", "constant"),
        learning_rate_init=p["rate"],
        power_t=p.get("power", 0.5),
        max_iter=p["epochs"],
        tol=0.0,
        momentum=p.get("momentum", 0.9),
        nesterovs_momentum=p.get("nesterov", True),
        beta_1=p.get("beta1", 0.9),
        beta_2=p.get("beta2", 0.999),
        epsilon=p.get("epsilon", 1e-8),
        random_state=0,
    )


FOREST = (
    whole("trees", 3, 20, log=True),
    whole("depth", 1, 14),
    real("features", 0.05, 1.0),
    whole("split", 2, 40, log=True),
    whole("leaf", 1, 20, log=True),
)
BOOTSTRAP = (
    choice("bootstrap", (True, False)),
    real("samples", 0.1, 1.0, when("bootstrap", True)),
)
CRITERION = choice("criterion", ("gini", "entropy"))


def forest(p: Assignment, *, regression: bool = False, extra: bool = False) -> Any:
    from sklearn import ensemble

    name = (
        f"{'ExtraTrees' if extra else 'RandomForest'}{'Regressor' if regression else 'Classifier'}"
    )
    bootstrap = bool(p.get("bootstrap", not extra))
    return getattr(ensemble, name)(
        n_estimators=p["trees"],
        max_depth=p["depth"],
        max_features=p["features"],
        min_samples_split=p["split"],
        min_samples_leaf=p["leaf"],
        bootstrap=bootstrap,
        max_samples=p.get("samples") if bootstrap else None,
        criterion=p.get("criterion", "squared_error" if regression else "gini"),
        random_state=0,
        n_jobs=1,
    )


BOOSTING = (
    real("rate", 1e-2, 1.0, log=True),
    whole("iterations", 3, 25, log=True),
    whole("leaves", 2, 31, log=True),
    whole("leaf", 1, 60, log=True),
    real("l2", 1e-6, 1e2, log=True),
    real("features", 0.1, 1.0),
    whole("bins", 8, 128, log=True),
)


def boosting(p: Assignment, *, regression: bool = False) -> Any:
    from sklearn import ensemble

    kind = "Regressor" if regression else "Classifier"
    return getattr(ensemble, f"HistGradientBoosting{kind}")(
        learning_rate=p["rate"],
        max_iter=p["iterations"],
        max_leaf_nodes=p["leaves"],
        min_samples_leaf=p["leaf"],
        l2_regularization=p["l2"],
        max_features=p["features"],
        max_bins=p["bins"],
        early_stopping=False,
        random_state=0,
    )


EXACT_BOOSTING = (
    real("rate", 1e-3, 1.0, log=True),
    whole("iterations", 5, 20),
    real("subsample", 0.2, 1.0),
    choice("criterion", ("friedman_mse", "squared_error")),
    whole("split", 2, 40, log=True),
    whole("leaf", 1, 30, log=True),
    real("weight", 0.0, 0.3),
    whole("depth", 1, 8),
    real("impurity", 1e-6, 1e-1, log=True),
    real("features", 0.05, 1.0),
    whole("leaves", 2, 32, log=True),
    real("pruning", 1e-6, 1e-1, log=True),
)


def exact_boosting(p: Assignment, *, regression: bool = False) -> Any:
    from sklearn import ensemble

    kind = "Regressor" if regression else "Classifier"
    return getattr(ensemble, f"GradientBoosting{kind}")(
        learning_rate=p["rate"],
        n_estimators=p["iterations"],
        subsample=p["subsample"],
        criterion=p["criterion"],
        min_samples_split=p["split"],
        min_samples_leaf=p["leaf"],
        min_weight_fraction_leaf=p["weight"],
        max_depth=p["depth"],
        min_impurity_decrease=p["impurity"],
        max_features=p["features"],
        max_leaf_nodes=p["leaves"],
        ccp_alpha=p["pruning"],
        random_state=0,
    )


KNN = (
    whole("neighbours", 1, 40, log=True),
    choice("weights", ("uniform", "distance")),
    choice("metric", ("euclidean", "manhattan", "chebyshev", "cosine")),
)


def knn(p: Assignment, *, regression: bool = False) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind = KNeighborsRegressor if regression else KNeighborsClassifier
    return kind(p["neighbours"], weights=p["weights"], metric=p["metric"], algorithm="brute")


def stretched(p: Assignment, model: Any, width: int) -> Any:
    """Each feature multiplied by a weight of its own, `w0` to `w<width - 1>`."""
    import numpy as np
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    weights = np.array([p[f"w{i}"] for i in range(width)])
    return make_pipeline(FunctionTransformer(lambda x: x * weights), model)


def projected(p: Assignment, model: Any) -> Any:
    """On the first `components` principal components, whitened or not."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        PCA(p["components"], whiten=p["whiten"], svd_solver="full", random_state=0), model
    )


LOGISTIC = (real("c", 1e-4, 1e4, log=True), choice("intercept", (True, False)))


def logistic(p: Assignment, *, regression: bool = False) -> Any:
    """Ridge is its counterpart for numbers."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if regression:
        return Ridge(alpha=1.0 / float(p["c"]), fit_intercept=p["intercept"])
    return LogisticRegression(C=p["c"], fit_intercept=p["intercept"], max_iter=60)


SGD = (
    choice("loss", ("log_loss", "modified_huber", "hinge", "perceptron")),
    choice("penalty", ("l2", "l1", "elasticnet")),
    real("l1", 0.0, 1.0, when("penalty", "elasticnet")),
    real("alpha", 1e-7, 1e-1, log=True),
    choice("schedule", ("optimal", "constant", "invscaling", "adaptive")),
    real("rate", 1e-4, 1.0, when("schedule", "constant", "invscaling", "adaptive"), log=True),
    real("power", 0.05, 0.9, when("schedule", "invscaling")),
    whole("epochs", 2, 30, log=True),
    choice("average", (True, False)),
)
SGD_REGRESSION = (
    choice("loss", ("squared_error", "huber", "epsilon_insensitive")),
    real("epsilon", 1e-3, 1.0, when("loss", "huber", "epsilon_insensitive"), log=True),
    *(p for p in SGD if p.name not in ("loss", "schedule", "rate")),
    choice("schedule", ("constant", "invscaling", "adaptive")),
    real("rate", 1e-5, 1e-1, log=True),
)


def sgd(p: Assignment, *, regression: bool = False) -> Any:
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    return (SGDRegressor if regression else SGDClassifier)(
        loss=p["loss"],
        penalty=p["penalty"],
        l1_ratio=p.get("l1", 0.15),
        alpha=p["alpha"],
        epsilon=p.get("epsilon", 0.1),
        learning_rate=p["schedule"],
        eta0=p.get("rate", 0.01),
        power_t=p.get("power", 0.25),
        max_iter=p["epochs"],
        average=p["average"],
        tol=None,
        random_state=0,
    )


ELASTIC_NET = (
    real("alpha", 1e-4, 1e1, log=True),
    real("l1", 0.0, 1.0),
    choice("degree", (1, 2)),
    choice("interactions", (True, False), when("degree", 2)),
    choice("positive", (True, False)),
    whole("sweeps", 5, 100, log=True),
)


def elastic_net(p: Assignment) -> Any:
    from sklearn.linear_model import ElasticNet
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    model = ElasticNet(
        alpha=p["alpha"], l1_ratio=p["l1"], positive=p["positive"], max_iter=p["sweeps"]
    )
    polynomial = PolynomialFeatures(
        p["degree"], interaction_only=bool(p.get("interactions")), include_bias=False
    )
    return make_pipeline(polynomial, model)


KERNEL_RIDGE = (
    choice("kernel", ("rbf", "laplacian", "polynomial", "linear")),
    real("alpha", 1e-4, 1e2, log=True),
    real("gamma", 1e-5, 1e1, when("kernel", "rbf", "laplacian", "polynomial"), log=True),
    whole("degree", 2, 5, when("kernel", "polynomial")),
    real("coef0", 0.0, 2.0, when("kernel", "polynomial")),
)


def kernel_ridge(p: Assignment) -> Any:
    from sklearn.kernel_ridge import KernelRidge

    return KernelRidge(**p)
