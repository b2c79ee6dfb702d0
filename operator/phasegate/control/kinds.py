"""The kinds the control loop reads and writes."""

from __future__ import annotations

from phasegate.api.base import API_VERSION
from phasegate.control.ports import Kind

AGENT_DEPLOYMENT = Kind(API_VERSION, "AgentDeployment", "agentdeployments")
ROLLBACK_POLICY = Kind(API_VERSION, "RollbackPolicy", "rollbackpolicies")
AGENT_ROLLOUT = Kind(API_VERSION, "AgentRollout", "agentrollouts")
ROLLOUT_ACTION = Kind(API_VERSION, "RolloutAction", "rolloutactions")

DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
POD = Kind("v1", "Pod", "pods")

ADMISSION_POLICY = Kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
)
ADMISSION_BINDING = Kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
)
