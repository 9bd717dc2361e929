"""The catalogue of the tutorials' experiments: `actsweep experiment <name>`.

To add one, write a module with `measure`, `draw`, `tables` and an `Experiment`, and list it below.
"""

from actsweep.utils.errors import unknown_name
from actsweep_tutorials import (
    activation_distributions,
    architectures,
    batchnorm_as_activation,
    born_dead,
    dead_neurons,
    dead_units,
    depth,
    dying_relu,
    gallery,
    gradient_flow,
    gradient_scan,
    images,
    isometry,
    jacobians,
    linear_collapse,
    numerics,
    output_layers,
    phase_diagram,
    plane,
    signal_through_layers,
    tutorial3,
    variance,
)
from actsweep_tutorials.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        gallery.EXPERIMENT,
        gradient_scan.EXPERIMENT,
        signal_through_layers.EXPERIMENT,
        dead_units.EXPERIMENT,
        born_dead.EXPERIMENT,
        isometry.EXPERIMENT,
        phase_diagram.EXPERIMENT,
        variance.EXPERIMENT,
        jacobians.EXPERIMENT,
        batchnorm_as_activation.EXPERIMENT,
        numerics.EXPERIMENT,
        plane.CIRCLE,
        plane.XOR,
        plane.XOR_SIGNS,
        images.EXPERIMENT,
        gradient_flow.EXPERIMENT,
        dead_neurons.EXPERIMENT,
        tutorial3.EXPERIMENT,
        activation_distributions.EXPERIMENT,
        linear_collapse.EXPERIMENT,
        depth.EXPERIMENT,
        architectures.EXPERIMENT,
        output_layers.EXPERIMENT,
        dying_relu.EXPERIMENT,
    )
}


def get(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        UserError: there is no such experiment; the message names the nearest.
    """
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
