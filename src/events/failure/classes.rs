//! The table of failure classes: what each means, which words name it, and examples of it.
//!
//! To teach the program a new wording, add one phrase and one example. A phrase is compared with
//! the words that `words.rs` leaves: lower case, `:` where a part of the text ends, `<quoted>`
//! or `<name>` where the user's own words stood, `<docker>` for the socket of Docker or podman, and
//! `5xx` for an HTTP status of a server error. If phrases of several classes are found, the class
//! that comes first in the table wins, so causes stand before their consequences.

use super::origin::Origin::{
    self, Apply, Cluster, Command, Compose, Docker, ImageBuild, LiveUpdate, Push, Session,
    Tiltfile, Unknown,
};
use super::origin::{Place, Target};

/// One value of `error.type`.
#[derive(Debug)]
pub struct Class {
    pub name: &'static str,
    /// Completes "the failure is of this class if ...".
    pub meaning: &'static str,
    pub causes: &'static [Cause],
    /// The words of Kubernetes for a pod or container in this state.
    pub pod_statuses: &'static [&'static str],
    pub examples: &'static [Example],
}

/// Phrases that name a class if the failure comes from one of the origins.
#[derive(Debug)]
pub struct Cause {
    pub origins: &'static [Origin],
    pub phrases: &'static [&'static str],
}

/// A text that people met in public, in short form and without personal details.
#[derive(Debug)]
pub struct Example {
    pub place: Place,
    pub text: &'static str,
    pub exit_code: Option<i64>,
    /// The thread in which it was reported, below <https://github.com>.
    pub thread: &'static str,
}

impl Example {
    const fn exit(mut self, code: i64) -> Self {
        self.exit_code = Some(code);
        self
    }
}

const fn example(place: Place, text: &'static str, thread: &'static str) -> Example {
    Example { place, text, exit_code: None, thread }
}

const fn image(text: &'static str, thread: &'static str) -> Example {
    example(Place::DockerImage, text, thread)
}

const fn stage(text: &'static str, thread: &'static str) -> Example {
    example(Place::Stage, text, thread)
}

const fn deploy(text: &'static str, thread: &'static str) -> Example {
    example(Place::Update(Target::Kubernetes), text, thread)
}

const fn live(text: &'static str, thread: &'static str) -> Example {
    example(Place::Update(Target::LiveUpdate), text, thread)
}

const fn compose(text: &'static str, thread: &'static str) -> Example {
    example(Place::Update(Target::DockerCompose), text, thread)
}

const fn local(text: &'static str, thread: &'static str) -> Example {
    example(Place::Update(Target::Local), text, thread)
}

const fn tiltfile(text: &'static str, thread: &'static str) -> Example {
    example(Place::Tiltfile, text, thread)
}

const fn cluster(text: &'static str, thread: &'static str) -> Example {
    example(Place::Cluster, text, thread)
}

const ANYWHERE: &[Origin] = &[
    ImageBuild, Push, Apply, LiveUpdate, Command, Compose, Tiltfile, Docker, Cluster, Session,
    Unknown,
];
/// A Tiltfile's own names may be among the words of its error, and files it misses are its mistake.
const NOT_TILTFILE: &[Origin] =
    &[ImageBuild, Push, Apply, LiveUpdate, Command, Compose, Docker, Session, Unknown];
/// Docker itself was reached.
const NOT_DOCKER: &[Origin] =
    &[ImageBuild, Push, Apply, LiveUpdate, Command, Compose, Tiltfile, Session, Unknown];
/// Images are pulled or pushed.
const REGISTRY: &[Origin] = &[ImageBuild, Push, Compose, Unknown];
const USES_DOCKER: &[Origin] = &[ImageBuild, Push, Compose, Tiltfile, Docker, LiveUpdate, Unknown];
const BUILD: &[Origin] = &[ImageBuild, Unknown];
const KUBERNETES: &[Origin] = &[Apply, LiveUpdate, Session];

pub const COMMAND_FAILED: &str = "command_failed";
/// OpenTelemetry's value for an error without a class.
pub const OTHER: &str = "_OTHER";

/// All classes, in the order in which they are tried.
#[rustfmt::skip]
pub const TABLE: &[Class] = &[
    Class {
        name: "tiltfile",
        meaning: "the Tiltfile has a mistake, or a command that it runs failed",
        causes: &[
            // The user's own message follows.
            Cause { origins: &[Tiltfile], phrases: &["error in fail :", ": fail :"] },
        ],
        pod_statuses: &[],
        examples: &[
            tiltfile("Traceback (most recent call last):\n  /home/dev/ext/Tiltfile:10:6: in <toplevel>\nError in local: Refusing to run 'local' because test might be a production kube context.\nIf you're sure you want to continue add:\n\tallow_k8s_contexts('test')", "tilt-dev/tilt-extensions/issues/478"),
            tiltfile("Error in docker_build: error reading dockerfile: open /Users/dev/shop/git+ssh:/git@git.example:2222/repo.git/Dockerfile: no such file or directory", "tilt-dev/tilt-extensions/issues/618"),
            tiltfile("loading extension env_args: no extension tiltfile found at /Users/dev/Library/Application Support/tilt-dev/tilt_modules/env_args/Tiltfile", "tilt-dev/vscode-tilt/issues/30"),
            tiltfile("Kubernetes context not set in [/home/dev/.kube/config]", "tilt-dev/tilt-example-bazel/issues/11"),
        ],
    },
    Class {
        name: "missing_program",
        meaning: "a program that should be started does not exist",
        causes: &[Cause { origins: ANYWHERE, phrases: &[
            "executable file not found", "executable <name> not found", "could not exec <quoted>", "could not exec tar",
            "exec : <quoted> : stat <name> : no such file or directory", "exec : <quoted> : no such file or directory",
            "exec <name> : no such file or directory", "exec : fork/exec <name> : no such file or directory", "not recognized as an internal or external command", "could not be found in this wsl",
        ] }],
        pod_statuses: &[],
        examples: &[
            tiltfile("ProvideDockerEnv: Could not read docker env from minikube: exec: \"minikube\": executable file not found in $PATH", "tilt-dev/tilt/issues/2895"),
        ],
    },
    Class {
        name: "permission_denied",
        meaning: "a program exists, but may not be started",
        causes: &[Cause { origins: ANYWHERE, phrases: &[
            "fork/exec <name> : permission denied", "fork/exec <name> : operation not permitted", "fork/exec <name> : access is denied",
            "exec : <quoted> : permission denied", "exec <quoted> : permission denied", "exec <name> : permission denied",
            "oci permission denied", "cannot run executable found relative",
        ] }],
        pod_statuses: &[],
        examples: &[
            compose("Cannot start service web: OCI runtime create failed: container_linux.go:348: starting container process caused \"exec: \\\"scripts/wait-for-db.sh\\\": permission denied\": unknown", "openatx/atxserver2/issues/43"),
            compose("ERROR: for web  Cannot start service web: OCI runtime create failed: container_linux.go:370: starting container process caused: exec: \"/usr/local/bin/entrypoint.sh\": permission denied: unknown", "decidim/docker/issues/76"),
            compose("Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"./start.sh\": permission denied: unknown", "ThreeDotsLabs/wild-workouts-go-ddd-example/issues/60"),
            local("Command \"./start-all.sh --timeout 5\" failed: failed to start: fork/exec ./start-all.sh: permission denied", "golang/go/issues/46819"),
        ],
    },
    Class {
        name: "kubernetes",
        meaning: "the Kubernetes API refused an object or a request",
        causes: &[
            Cause { origins: KUBERNETES, phrases: &[
                "admission webhook", "denied the request", "denied request", "failed calling webhook", "failed to call webhook",
                "is forbidden", "is invalid :", "already exists", "field is immutable", "no matches for kind", "unable to recognize",
                "object has been modified", "operation cannot be fulfilled", "exceeded quota", "strict decoding error", "error validating data",
                "malformed yaml", "unable to upgrade connection", "internal error occurred",
            ] },
            Cause { origins: &[LiveUpdate], phrases: &[
                "<quoted> not found", "container not found", "pod not found", "pod does not exist", "cannot exec into a container",
                "cannot exec in a stopped", "is waiting to start", ": unauthorized :", "provide credentials",
            ] },
            Cause { origins: &[Command, Compose, Unknown], phrases: &["error from server", "unable to recognize", "no matches for kind"] },
        ],
        pod_statuses: &[],
        examples: &[
            deploy("admission webhook \"vtargetgroupbinding.elbv2.k8s.aws\" denied the request: TargetGroupBinding update may not change these fields: spec.targetGroupARN", "fluxcd/kustomize-controller/issues/834"),
            deploy("Internal error occurred: failed calling webhook \"mvolumereplication.kb.io\": webhook returned response.patchType but not response.patch", "csi-addons/volume-replication-operator/pull/90"),
            deploy("userextras.authentication.k8s.io \"local://u-1\" is forbidden: User \"system:serviceaccount:cattle:u-1\" cannot impersonate resource \"userextras/principalid\" in API group \"authentication.k8s.io\" at the cluster scope", "tilt-dev/tilt/issues/5927"),
            deploy("kubernetes apply: unable to fetch API Group Resources: Unauthorized", "tilt-dev/tilt/issues/2062"),
            deploy("kubernetes apply: ServiceAccount \"operator\" in namespace \"strimzi\" exists and cannot be imported into the current release: invalid ownership metadata; label validation error: missing key \"app.kubernetes.io/managed-by\": must be set to \"Helm\"", "fluxcd/helm-controller/issues/231"),
        ],
    },
    Class {
        name: "disk_full",
        meaning: "a disk has no space left, or a disk quota is used up",
        causes: &[Cause { origins: ANYWHERE, phrases: &[
            "no space left on device", "disk quota exceeded", "not enough space on the disk", "not enough space on disk", "disk full",
        ] }],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: ResourceExhausted: failed to read dockerfile: failed to create temp dir: mkdir /var/lib/docker/tmp/buildkit-mount2667628103: no space left on device", "serverless/containers/issues/19"),
            image("ImageBuild: failed to compute cache key: copying of parent failed: failed to copy files: copy file range failed: no space left on device", "moby/buildkit/issues/2727"),
            image("Error response from daemon: mkdir /var/lib/docker/tmp/docker-builder312255349: no space left on device", "moby/buildkit/issues/1138"),
            image("Error response from daemon: Error processing tar file(exit status 1): write /server/WEB-INF/lib/rocksdbjni-5.18.4.jar: no space left on device", "eclipse-dirigible/dirigible/issues/769"),
        ],
    },
    Class {
        name: "out_of_memory",
        meaning: "memory ran out, or Kubernetes killed a container for using too much",
        causes: &[Cause { origins: ANYWHERE, phrases: &[
            "out of memory", "oomkilled", "oom killed", "cannot allocate memory", "paging file is too small", "not enough memory resources",
        ] }],
        pod_statuses: &["OOMKilled"],
        examples: &[
            image("Error response from daemon: Untar error on re-exec cmd: fork/exec /proc/self/exe: cannot allocate memory", "openshift/origin/issues/14496"),
            compose("Error response from daemon: failed to create endpoint shop-web-1 on network bridge: failed to add the host (veth6ad97f8) <=> sandbox (veth23b66ce) pair interfaces: cannot allocate memory.", "docker/for-linux/issues/1443"),
        ],
    },
    Class {
        name: "cancelled",
        meaning: "Tilt or BuildKit stopped it: someone disabled the resource or stopped the build, or another stage had failed",
        causes: &[Cause { origins: ANYWHERE, phrases: &["context canceled", "context cancelled", "build canceled", "operation was canceled", ": canceled :", "failed : killed"] }],
        pod_statuses: &[],
        examples: &[
            stage("executor failed running [/bin/sh -c make && make DISTDIR=/dist install]: exit code: 137: context canceled: context canceled", "moby/buildkit/issues/990").exit(137),
        ],
    },
    Class {
        name: "cluster_unavailable",
        meaning: "the connection to the Kubernetes cluster failed, so that nothing can be deployed",
        causes: &[Cause { origins: ANYWHERE, phrases: &["connecting to your kubernetes cluster", "kubernetes cluster unreachable"] }],
        pod_statuses: &[],
        examples: &[
            cluster("Tilt encountered an error connecting to your Kubernetes cluster:\n\tGet \"https://0A1B.gr7.us-east-1.eks.amazonaws.com/version?timeout=32s\": context deadline exceeded\nYou will need to restart Tilt after resolving the issue.", "tilt-dev/tilt/issues/6391"),
        ],
    },
    Class {
        name: "docker_unavailable",
        meaning: "Docker or podman is not running, or the user may not connect to it",
        causes: &[Cause { origins: USES_DOCKER, phrases: &[
            "cannot connect to the docker daemon", "couldn't connect to docker daemon",
            "docker daemon running", "docker daemon is not running", "docker daemon socket", "connect to the docker api", "connect to docker :",
            "error during connect", "get <docker>", "head <docker>", "post <docker>", "docker is not responding", "docker desktop is", "unix <docker>", "open <docker>",
            "connect to podman", "for api route and version", "code = unavailable", ": unavailable :",
        ] }],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: error during connect: Get \"http://%2F%2F.%2Fpipe%2FdockerDesktopLinuxEngine/v1.51/containers/json\": open //./pipe/dockerDesktopLinuxEngine: The system cannot find the file specified.", "docker/for-win/issues/14975"),
            image("Error response from daemon: open \\\\.\\pipe\\docker_engine_linux: The system cannot find the file specified.", "docker/for-win/issues/9023"),
            compose("error during connect: Post http://%2F%2F.%2Fpipe%2Fdocker_engine/v1.40/containers/create: open //./pipe/docker_engine: The system cannot find the file specified. In the default daemon configuration on Windows, the docker client must be run elevated to connect.", "docker-archive/toolbox/issues/853"),
            image("getDigestFromBuildOutput: Docker is not responding. Maybe Docker is out of disk space? Try running `docker system prune`", "tilt-dev/tilt/issues/5953"),
        ],
    },
    Class {
        name: "port_in_use",
        meaning: "a port of the machine is in use, or reserved by the system",
        causes: &[Cause { origins: NOT_TILTFILE, phrases: &[
            "port is already allocated", "port is already in use", "address already in use", "ports are not available",
            "only one usage of each socket address", "access a socket in a way forbidden", "cannot expose privileged port",
        ] }],
        pod_statuses: &[],
        examples: &[
            compose("Cannot start service db: driver failed programming external connectivity on endpoint shop_db_1 (47ff2801): Error starting userland proxy: Bind for 0.0.0.0:5432 failed: port is already allocated", "docker/compose/issues/4126"),
            compose("ERROR: for db  Cannot start service db: driver failed programming external connectivity on endpoint iot_db_1 (7c482cab): Error starting userland proxy: listen tcp 0.0.0.0:8083: bind: address already in use", "docker/compose/issues/4126"),
            compose("Cannot start service db: driver failed programming external connectivity on endpoint shop_db_1 (ecc3bf30): Error starting userland proxy: Bind for 0.0.0.0:27017 failed: port is already allocated", "moby/moby/issues/28180"),
        ],
    },
    Class {
        name: "rate_limited",
        meaning: "a registry or another server answered that there were too many requests",
        causes: &[Cause { origins: NOT_TILTFILE, phrases: &[
            "toomanyrequests", "too many requests", "pull rate limit", ": rate exceeded", "status : 429", "status 429", "status code 429",
        ] }, Cause { origins: &[Tiltfile], phrases: &[": toomanyrequests", ": 429 too many requests"] }],
        pod_statuses: &[],
        examples: &[
            compose("Error response from daemon: toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit", "docker/hub-feedback/issues/2429"),
            image("ImageBuild: busybox:1.34.1: failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/busybox/manifests/sha256:0497: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.", "penumbra-zone/penumbra/issues/1648"),
            image("pushing image \"team/web\": request failed with status: 429 Too Many Requests", "docker/hub-feedback/issues/413"),
            image("ImageBuild: failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://registry-1.docker.io/v2/library/alpine/manifests/sha256:5b10: 429 Too Many Requests\ntoomanyrequests: You have reached your pull rate limit as 'me': dckr_jti_1. You may increase the limit by upgrading.", "docker/build-push-action/pull/1539"),
        ],
    },
    Class {
        name: "registry_denied",
        meaning: "a registry refused a pull or a push: not logged in, or no right to the image",
        causes: &[Cause { origins: REGISTRY, phrases: &[
            "pull access denied", "unauthorized", "403 forbidden", ": forbidden :", ": authentication required", "access to the resource is denied", "access denied",
            ": denied :", "authorization failed", "insufficient_scope", "no basic auth credentials", "authorization token has expired",
            "incorrect username or password", "not authorized",
        ] }],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: chef:latest: failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized", "moby/buildkit/issues/4456"),
            image("ImageBuild: failed to create LLB definition: failed to authorize: rpc error: code = Unknown desc = failed to fetch oauth token: unexpected status: 401 Unauthorized", "bjartnes/hikke/issues/12"),
            image("ImageBuild: failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized", "moby/buildkit/issues/3179"),
            image("ImageBuild: failed to fetch oauth token: unexpected status: 403 Forbidden", "amygdala-labs/heighliner/issues/98"),
            image("ImageBuild: authorization status: 401: authorization failed", "docker/buildx/issues/878"),
            image("pushing image \"docker.io/internal/web\": denied: requested access to the resource is denied", "docker/hub-feedback/issues/1222"),
            image("ImageBuild: creating build container: initializing source docker://foobase:latest: reading manifest latest in docker.io/library/foobase: requested access to the resource is denied", "podman-container-tools/podman/issues/25913"),
            image("ImageBuild: error creating build container: 2 errors occurred while pulling:\n * Error initializing source docker://env:latest: Error reading manifest latest in docker.io/library/env: errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n\n * Error reading manifest latest in quay.io/env: StatusCode: 404, 404 page not found", "podman-container-tools/podman/issues/10914"),
        ],
    },
    Class {
        name: "timeout",
        meaning: "something did not answer or end in time",
        causes: &[
            Cause { origins: NOT_DOCKER, phrases: &[
                "i/o timeout", "handshake timeout", "deadline exceeded", "deadlineexceeded", "connection timed out", "operation timed out",
                "request timed out", "exceeded while awaiting headers", "failed because connected host has failed to respond",
                "did not properly respond after a period of time", "semaphore timeout period has expired",
            ] },
            Cause { origins: &[ImageBuild, Push, Apply, LiveUpdate, Command, Compose, Session, Unknown], phrases: &[
                "timed out", "retry timeout", "within requested timeout", "in the time allotted", ": timeout :", ": timeout occurred", ": timeout occured", ": timeout after", "readiness timeout",
            ] },
        ],
        pod_statuses: &[],
        examples: &[
            deploy("kubernetes apply: Unable to connect to the server: net/http: TLS handshake timeout", "kubernetes/kubernetes/issues/107418"),
            image("ImageBuild: DeadlineExceeded: context deadline exceeded", "moby/buildkit/issues/4327"),
            stage("executor failed running [copy /src-0/component src/project/component/]: flightcontrol: exceeded retry timeout", "moby/buildkit/issues/990"),
            image("ImageBuild: Get https://registry-1.docker.io/v2/: net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "docker/setup-buildx-action/pull/609"),
            live("Updating pod shop-1: copying changed files: Timeout occurred", "gravitational/teleport/issues/12292"),
            live("Updating pod shop-1: copying changed files: Timeout occured", "containerd/cri/issues/439"),
            live("Updating pod es-1: Error from server: Get https://192.0.2.101:10250/containerLogs/default/es-1/es: net/http: TLS handshake timeout", "pires/kubernetes-elasticsearch-cluster/issues/168"),
            tiltfile("Traceback (most recent call last):\n  /home/dev/shop/Tiltfile:1:5: in <toplevel>\nError: cannot load ext://x: loading extension repo y: download error: waiting 5s before retrying. Original error: dial tcp 192.0.2.7:22: connect: operation timed out", "tilt-dev/tilt-extensions/issues/618"),
        ],
    },
    Class {
        name: "killed",
        meaning: "a signal ended the program, from any sender",
        causes: &[Cause { origins: ANYWHERE, phrases: &["signal :", "exit status -1", "exited with status -1", "terminated by signal"] }],
        pod_statuses: &[],
        examples: &[
            local("Command \"go build ./pkg/template\" failed: signal: killed", "harness/harness/issues/390"),
        ],
    },
    Class {
        name: "image_not_found",
        meaning: "the registry or Docker does not have an image of that name, tag or platform",
        causes: &[Cause { origins: REGISTRY, phrases: &[
            "manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "no match for platform", "no matching manifest",
            "manifest for <name> not found", "<name> : not found :", "did not resolve to an alias", "no such image", "no such manifest",
            "image not known", "image not found", "could not find image in docker", "pull <quoted> : not found", ": 404 not found", "404 page not found",
            "failed to pull and unpack image <quoted> : not found",
        ] }],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: failed to create LLB definition: no match for platform in manifest sha256:4691: not found", "docker-library/official-images/issues/11021"),
            image("ImageBuild: team/deps:latest: failed to resolve source metadata for docker.io/team/deps:latest: no match for platform in manifest: not found", "infiniflow/ragflow/issues/5171"),
            image("ImageBuild: manifest for registry.example/sdk/base-adapter:python-1.0.0 not found: manifest unknown: The named manifest is not known to the registry.", "vmware/vmware-vcf-operations-integration-sdk/issues/425"),
            compose("manifest for java:latest not found: manifest unknown: manifest unknown", "jpetazzo/minimage/issues/1"),
            image("ImageBuild: creating build container: short-name \"crystallang/crystal:1.0.0-alpine\" did not resolve to an alias and no unqualified-search registries are defined in \"/etc/containers/registries.conf\"", "containers/podman-compose/issues/725"),
        ],
    },
    Class {
        name: "network",
        meaning: "a connection failed: name lookup, refused, reset, proxy or certificate, or the server had an error of its own",
        causes: &[
            Cause { origins: NOT_DOCKER, phrases: &[
                "no such host", "server misbehaving", "could not resolve host", "temporary failure in name resolution",
                "no data of the requested type was found", "connection refused", "actively refused", "connection reset", "forcibly closed",
                "network is unreachable", "unreachable network", "unreachable host", "no route to host", "host is down", "host is unreachable", "network is down", "can't assign requested address", "error during hostname resolution", "x509 :",
                "certificate signed by unknown authority", "server gave http response to https client",
            ] },
            Cause { origins: &[ImageBuild, Push, Apply, LiveUpdate, Compose, Unknown], phrases: &[
                ": eof :", "unexpected eof", "broken pipe", "was refused", "tls :", "http2 :", "stream error", "stream terminated by", "use of closed network connection",
                "server closed idle connection", "client connection lost", "proxyconnect", "proxy authentication required", "bad gateway", "service unavailable",
                "internal server error", "5xx gateway", "status : 5xx", "status 5xx", "status code 5xx", "<name> : 5xx", "<quoted> : 5xx",
            ] },
        ],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: failed to create LLB definition: unexpected status code [manifests latest]: 503 Service Unavailable", "moby/buildkit/issues/1972"),
            image("Error response from daemon: Head \"https://registry-1.docker.io/v2/moby/buildkit/manifests/1\": received unexpected HTTP status: 503 Service Unavailable", "hashicorp/terraform-mcp-server/issues/202"),
            image("ImageBuild: failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/busybox/blobs/sha256:af47: 500 Internal Server Error", "zeta-chain/node/pull/3497"),
            image("ImageBuild: node:18.13-alpine: failed to authorize: failed to fetch anonymous token: Get \"https://auth.docker.io/token\": dial tcp [2001:db8::9126]:443: connect: network is unreachable", "distribution/distribution/issues/4015"),
            image("ImageBuild: failed to authorize: failed to fetch oauth token: Post \"https://auth.docker.io/token\": read tcp 192.0.2.2:51234->192.0.2.9:443: read: connection reset by peer", "moby/buildkit/issues/5839"),
            compose("Error response from daemon: Get https://registry-1.docker.io/v2/: x509: certificate signed by unknown authority", "docker-library/hello-world/issues/86"),
            image("ImageBuild: error pulling image configuration: Get https://cdn.example/registry-v2/blobs/sha256/f2/data?Signature=NRKv: x509: certificate signed by unknown authority", "moby/moby/issues/36820"),
            compose("Error while pulling image: Get https://index.docker.io/v1/repositories/library/web/images: x509: certificate signed by unknown authority.", "docker/for-win/issues/23"),
            image("ImageBuild: docker/dockerfile:1: failed to resolve source metadata for docker.io/docker/dockerfile:1: failed to do request: Head \"https://registry-1.docker.io/v2/docker/dockerfile/manifests/1\": Proxy Authentication Required", "devcontainers/cli/issues/1038"),
            deploy("The connection to the server 192.0.2.17:6443 was refused - did you specify the right host or port?", "kubernetes/kubernetes/issues/62997"),
        ],
    },
    Class {
        name: "dockerfile",
        meaning: "the Dockerfile is missing or has a mistake",
        causes: &[Cause { origins: BUILD, phrases: &[
            "dockerfile parse error", "unknown instruction", "failed to read dockerfile : open <name> : no such file or directory",
            "cannot locate specified dockerfile", "symlinks in dockerfile path", "dockerfile cannot be empty", "could not be found : target stage",
            "target stage <name> could not be found", "target stage <quoted> could not be found", "failed to reach build target",
            "invalid reference format", "requires buildkit", "unknown flag", "failed to parse stage name", "circular dependency detected",
            "invalid from flag value", "no build stage in current context", "base name", "file with no instructions", "failed to process <quoted>",
            "requires at least", "requires exactly", "forbidden path outside the build context",
        ] }],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: dockerfile parse error on line 14: unknown instruction: git", "AbdBarho/stable-diffusion-webui-docker/issues/160"),
            image("Error response from daemon: Dockerfile parse error line 7: unknown instruction: <!DOCTYPE", "docker-library/hello-world/issues/49"),
            image("ImageBuild: dockerfile parse error on line 69: unknown instruction: {", "RchGrav/claudebox/issues/4"),
        ],
    },
    Class {
        name: "missing_file",
        meaning: "a file or folder that the build, a command or a container needs does not exist",
        causes: &[
            Cause { origins: NOT_TILTFILE, phrases: &[
                "no such file or directory", "file does not exist", "no such file", "cannot find the file specified", "cannot find the path specified",
                "source path does not exist",
            ] },
            Cause { origins: BUILD, phrases: &[
                "<quoted> not found", "<quoted> : not found", "not found : not found", "not found in build context", "no source files were specified",
                "path <name> not found", "failed to compute cache key", "failed to calculate checksum", "status 404",
            ] },
        ],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: failed to compute cache key: \"/dev-stack/tunnel/config.yaml\" not found: not found", "tilt-dev/tilt/issues/2296"),
            image("ImageBuild: COPY failed: file not found in build context or excluded by .dockerignore: stat scripts: file does not exist", "KeenSecurityLab/BinAbsInspector/issues/63"),
            image("ImageBuild: COPY failed: stat /var/lib/docker/tmp/docker-builder124447013/config.json: no such file or directory", "moby/moby/issues/34986"),
            image("ImageBuild: COPY failed: file not found in build context or excluded by .dockerignore: stat build/run.sh: file does not exist", "jitsi/moderated-meetings/issues/14"),
            stage("rpc error: code = Unknown desc = not found: not found", "moby/buildkit/issues/785"),
        ],
    },
    Class {
        name: "crash_loop",
        meaning: "a container keeps ending, and Kubernetes keeps starting it again",
        causes: &[],
        pod_statuses: &["CrashLoopBackOff"],
        examples: &[],
    },
    Class {
        name: "image_pull",
        meaning: "Kubernetes cannot pull the image of a container",
        causes: &[],
        pod_statuses: &[
            "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable",
            "SignatureValidationFailed",
        ],
        examples: &[],
    },
    Class {
        name: "pod_config",
        meaning: "Kubernetes cannot create or start a container as it is specified",
        causes: &[],
        pod_statuses: &[
            "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun",
            "PreCreateHookError", "PreStartHookError", "PostStartHookError", "CreatePodSandboxError", "RunInitContainerError",
        ],
        examples: &[],
    },
    Class {
        name: "evicted",
        meaning: "Kubernetes removed a pod from its node, which ran low on a resource or went away",
        causes: &[],
        pod_statuses: &["Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "TerminationByKubelet"],
        examples: &[],
    },
    Class {
        name: "unschedulable",
        meaning: "no node can take a pod",
        causes: &[],
        pod_statuses: &[
            "Unschedulable", "SchedulingGated", "NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage",
            "UnexpectedAdmissionError",
        ],
        examples: &[],
    },
    Class {
        name: "job_failed",
        meaning: "a Kubernetes Job failed, or ran out of time or attempts",
        causes: &[Cause { origins: &[Session], phrases: &["pod <quoted> failed"] }],
        pod_statuses: &["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"],
        examples: &[],
    },
    Class {
        name: COMMAND_FAILED,
        meaning: "a command ended with an exit code other than 0",
        causes: &[Cause { origins: &[ImageBuild, Unknown], phrases: &[
            "executor failed running", "did not complete successfully", "did not terminate", "while running runtime",
        ] }],
        pod_statuses: &["Error"],
        examples: &[
            image("ImageBuild: executor failed running [/bin/sh -c CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build ./cmd/foobar/...]: exit code: 2", "tilt-dev/tilt/issues/1516").exit(2),
            image("ImageBuild: failed to solve with frontend dockerfile.v0: failed to build LLB: executor failed running [/bin/sh -c go build ./cmd/whatever]: runc did not terminate sucessfully", "tilt-dev/tilt/issues/2718"),
            image("ImageBuild: executor failed running [/bin/sh -c go install github.com/team/servantes/vigoda]", "tilt-dev/tilt/pull/2558"),
            image("ImageBuild: error building at STEP \"RUN false\": error while running runtime: exit status 1", "podman-container-tools/podman/issues/7137").exit(1),
            image("ImageBuild: building at STEP \"RUN yum update && yum install -y 'dnf-command(builddep)' rpmdevtools && yum clean all\": while running runtime: exit status 1", "podman-container-tools/buildah/issues/2750").exit(1),
            image("error running container: error creating container for [/bin/sh -c dnf -y install make]: : exit status 1", "podman-container-tools/podman/issues/7529").exit(1),
            image("ImageBuild: The command '/bin/sh -c npm run build' returned a non-zero code: 137", "docker-library/docker/issues/316").exit(137),
            image("ImageBuild: The command [/bin/sh -c make timeout] returned a non-zero code: 2", "harness/harness/issues/390").exit(2),
            image("ImageBuild: executor failed running [/bin/sh -c yarn build]: exit code: 137", "ethereum-optimism/optimism/issues/2191").exit(137),
            live("Updating pod web-1: copying changed files: command terminated with exit code 2", "tilt-dev/tilt/issues/4617").exit(2),
            live("Updating container be1f86a5a2: command terminated with exit code 1", "tilt-dev/tilt/issues/4200").exit(1),
            deploy("apply command exited with status 1\nstdout:\nError: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress\n", "helm/helm/issues/10549").exit(1),
            deploy("apply command exited with status 1\nstdout:\nError: rendered manifests contain a resource that already exists. Unable to continue with install: existing resource conflict: namespace: shop, name: web\n", "helm/helm/issues/11122").exit(1),
            compose("command [\"docker-compose\" \"--project-name\" \"shop\" \"-f\" \"/home/dev/shop/docker-compose.yml\" \"build\"] failed.\nerror: exit status 17\nstderr: \"failed to solve with frontend dockerfile.v0: failed to fetch oauth token: unexpected status: 401 Unauthorized\"", "bjartnes/hikke/issues/12").exit(17),
        ],
    },
    Class {
        name: OTHER,
        meaning: "it is none of the above",
        causes: &[],
        pod_statuses: &[],
        examples: &[
            image("ImageBuild: missing provenance for fuqamtlkfg8ef41sv5ivh9bn6", "tilt-dev/tilt/issues/6125"),
            live("Updating container abc: ExecUpdater does not support `restart_container()` step. If you ran Tilt with `--updateMode=exec`, omit this flag.", "tilt-dev/tilt/issues/3077"),
            compose("Cannot create container for service timeout: Conflict. The container name \"/timeout\" is already in use by container \"93961ed1994f\". You have to remove (or rename) that container to be able to reuse that name.", "docker/compose/issues/7454"),
            compose("dependency failed to start: container shop-redis-1 is unhealthy", "docker/compose/issues/11474"),
            compose("dependency failed to start: container shop_database exited (0)", "docker/compose/issues/11125").exit(0),
        ],
    },
];
