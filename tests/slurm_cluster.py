"""A private SLURM cluster on this machine, for tests: real daemons in one folder, as any user."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"
PROGRAMS = (
    *("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "setpriv"),
    *("sbatch", "srun", "squeue", "scancel", "sinfo", "sacct", "sacctmgr", "scontrol"),
)
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # daemons aren't on everybody's PATH

# What isn't obvious:
# - cred_expire: a requeued job waits until its old credentials have expired, else two minutes.
# - accounting: submitit asks sacct what became of a job, for ever if nobody answers.
# - preempt_send_user_signal: a preempted job gets submitit's signal, and GraceTime seconds.
# - MaxArraySize: small, so that a small sweep is more than one array.
# - no cgroups: placement is real, limits of CPUs and memory aren't enforced.
SLURM_CONF = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1,\
requeue_delay=1
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=100000
MaxArraySize=4
ReturnToService=2
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 "
    "Gres=gpu:1"
)
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
"""
CGROUP_CONF = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"  # `disabled` would make slurmd exit
GRES_CONF = "AutoDetect=off\nName=gpu File=/dev/null\n"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its folder, and the environment that makes SLURM's commands find it."""

    folder: Path
    env: dict[str, str]

    def ask(self, *command: str) -> str:
        """Return what a command such as `squeue` prints."""
        process = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        if process.returncode:
            message = process.stderr.strip() or process.stdout.strip()
            raise RuntimeError(f"{' '.join(command)}: {message}")
        return process.stdout

    def answers(self, *command: str) -> bool:
        """Return whether a command succeeds."""
        with contextlib.suppress(RuntimeError):
            self.ask(*command)
            return True
        return False


@contextlib.contextmanager
def cluster(nodes: int = 2) -> Iterator[Cluster]:
    """Start a cluster of so many nodes; stop it, its jobs and all its processes at the end.

    If this process is killed, the daemons end with it; jobs that run then are left.

    Each node has two CPUs and one GPU that isn't there. Partition `main` is the default; jobs of
    `urgent` take its nodes, and what ran there is requeued.

    Raises:
        RuntimeError: a program is missing, with the packages to install; or a daemon doesn't start,
            with the end of its log.
    """
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        raise RuntimeError(
            f"no {', '.join(missing)}: the SLURM tests need Debian's packages; type "
            f"apt-get install --no-install-recommends {PACKAGES}, or leave the tests out with "
            "-m 'not slow'"
        )
    # Not pytest's folder: sockets have paths of at most 107 characters.
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        stack.callback(_kill_all, folder)
        names = [f"n{index}" for index in range(nodes)]
        env = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        # For slurmdbd; and a password of the user's own would be in the way.
        env |= {"MYSQL_UNIX_PORT": str(folder / "db.socket"), "MYSQL_HOME": str(folder)}
        running = Cluster(folder, env)
        _configure(folder, names)
        _start_accounting(running, stack)
        _start(running, stack, "slurmctld", "slurmctld", "-D")
        _wait(running, "slurmctld", lambda: running.answers("scontrol", "ping"))
        for name in names:
            _start(running, stack, f"slurmd.{name}", "slurmd", "-D", "-N", name)
        idle = lambda: running.ask("sinfo", "-h", "-p", "main", "-o", "%T %D").split()  # noqa: E731
        _wait(running, "slurmctld", lambda: idle() == ["idle", str(nodes)])
        yield running


def _configure(folder: Path, names: Sequence[str]) -> None:
    ctld_port, dbd_port, *ports = _free_ports(2 + len(names))
    given = {
        "folder": folder,
        "host": socket.gethostname().partition(".")[0],
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "ctld_port": ctld_port,
        "dbd_port": dbd_port,
    }
    lines = [NODE.format(name=n, port=p, **given) for n, p in zip(names, ports, strict=True)]
    for name in ("state", "db", *(f"spool.{name}" for name in names)):
        (folder / name).mkdir()
    _private(folder / "munge.key").write_bytes(secrets.token_bytes(128))
    _private(folder / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**given))
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**given, nodes="\n".join(lines)))
    (folder / "cgroup.conf").write_text(CGROUP_CONF)
    (folder / "gres.conf").write_text(GRES_CONF)


def _private(path: Path) -> Path:
    path.touch(mode=0o600)
    return path


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        # All are held until the last is known, so none comes twice.
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in taken]


def _start_accounting(cluster: Cluster, stack: contextlib.ExitStack) -> None:
    """Start munged, the database and slurmdbd, and register the cluster."""
    at = cluster.folder
    files = (f"--{what}-file={at}/munge.{what}" for what in ("key", "pid", "log", "seed"))
    _start(
        cluster, stack, "munged", "munged", "-F", f"--socket={at}/munge.socket", *files, "--force"
    )
    _wait(cluster, "munged", (at / "munge.socket").exists)
    user = pwd.getpwuid(os.getuid()).pw_name
    # A server that starts clears its folder for temporary tables: clusters mustn't share one.
    database = ["--no-defaults", f"--datadir={at}/db", f"--tmpdir={at}", f"--user={user}"]
    cluster.ask(
        "mariadb-install-db", *database, f"--auth-root-socket-user={user}", "--skip-test-db"
    )
    network = ["--skip-networking", f"--socket={at}/db.socket", f"--pid-file={at}/db.pid"]
    # Whoever reaches the socket, in a folder of the user's own, may do anything.
    _start(cluster, stack, "mariadbd", "mariadbd", *database, *network, "--skip-grant-tables")
    _wait(cluster, "mariadbd", (at / "db.socket").exists)
    _start(cluster, stack, "slurmdbd", "slurmdbd", "-D")
    _wait(
        cluster, "slurmdbd", lambda: cluster.answers("sacctmgr", "-i", "add", "cluster", "private")
    )


def _start(cluster: Cluster, stack: contextlib.ExitStack, name: str, *command: str) -> None:
    """Start a daemon in the foreground; it ends with the stack, or when this process is killed."""
    tied = ["setpriv", "--pdeathsig", "KILL", *command]
    with open(cluster.folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            tied, env=cluster.env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a daemon: after a SIGTERM slurmd would wait for its jobs, and nothing here is saved."""
    process.kill()
    process.wait()


def _wait(cluster: Cluster, name: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            log = (cluster.folder / f"{name}.log").read_text(errors="replace")
            raise RuntimeError(f"{name} isn't ready after {seconds:g} s:\n{log[-3000:]}")
        time.sleep(0.05)


def _kill_all(folder: Path) -> None:
    """Kill everything else that uses this folder: jobs, their steps, and their children."""
    for _ in range(100):  # a process may have started another one meanwhile
        left = [pid for pid in knowing(folder) if pid != os.getpid()]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def knowing(folder: Path) -> list[int]:
    """Return processes with a path in this folder in their environment or command line."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to someone else
            text = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            pids += [int(process.name)] if f"{folder}/".encode() in text else []
    return pids
