use super::*;

fn read(object: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    assert!(snapshot.add(object), "{object}");
    snapshot
}

#[test]
fn null_absent_and_empty_fields_have_no_value() {
    for status in [
        "{}",
        "null",
        r#"{"updateStatus":null,"conditions":null,"specs":null,"waiting":null,"buildHistory":null}"#,
        r#"{"updateStatus":"","waiting":null,"disableStatus":{"state":""}}"#,
    ] {
        let text =
            format!(r#"{{"kind":"UIResource","metadata":{{"name":"web"}},"status":{status}}}"#);
        let expected = Resource { name: "web".into(), ..Resource::default() };
        assert_eq!(read(&text).resources, [expected], "{status}");
    }
}

#[test]
fn a_tiltfile_reload_is_not_a_wait_for_resources() {
    for (reason, on) in
        [("waiting-for-dep", vec!["db".to_owned()]), ("tiltfile-reload", Vec::new())]
    {
        let text = format!(
            r#"{{"kind":"UIResource","metadata":{{"name":"web"}},"status":{{"waiting":{{"reason":"{reason}","on":[{{"name":"db"}}]}}}}}}"#
        );
        let waiting = read(&text).resources.remove(0).waiting.expect("a waiting resource");
        assert_eq!((waiting.reason.as_deref(), waiting.on), (Some(reason), on));
    }
}

#[test]
fn waiting_on_lists_resources_only() {
    let text = r#"{"kind":"UIResource","metadata":{"name":"web"},"status":{"waiting":{"reason":"waiting-for-cluster","on":[
        {"kind":"Cluster","name":"default"},{"kind":"ImageMap","name":"base"},{"kind":"UIResource","name":"db"}]}}}"#;
    let waiting = read(text).resources.remove(0).waiting.expect("a waiting resource");
    assert_eq!(waiting.on, ["db"]);
}

#[test]
fn a_cluster_has_a_product_and_no_names() {
    let connected = r#"{"kind":"Cluster","metadata":{"name":"default"},"spec":{"connection":{"kubernetes":{}}},
        "status":{"arch":"amd64","version":"v1.32.9","connection":{"kubernetes":{"context":"kind-shop","product":"kind"}}}}"#;
    let expected = Cluster {
        resource_version: 0,
        is_unavailable: false,
        product: Some("kind".into()),
        version: Some("v1.32.9".into()),
        arch: Some("amd64".into()),
    };
    assert_eq!(read(connected).cluster, Some(expected));
    let failed = r#"{"kind":"Cluster","spec":{"connection":{"kubernetes":{}}},"status":{"error":"refused"}}"#;
    let expected = Cluster { is_unavailable: true, ..Cluster::default() };
    assert_eq!(read(failed).cluster, Some(expected));
    let docker =
        r#"{"kind":"Cluster","spec":{"connection":{"docker":{}}},"status":{"arch":"amd64"}}"#;
    assert_eq!(read(docker).cluster, None);
}

#[test]
fn a_session_has_an_outcome_once_it_is_done() {
    for (status, expected) in [
        (r#"{"done":false}"#, None),
        (r#"{"done":true}"#, Some(Outcome::Success)),
        (r#"{"done":true,"error":"Command \"x\" failed: exit 1"}"#, Some(Outcome::Failure)),
        (
            r#"{"done":true,"error":"Timeout after 4s: 1 resources waiting (b:update)"}"#,
            Some(Outcome::Timeout),
        ),
        (
            r#"{"done":true,"error":"Readiness timeout after 3s: target b not ready"}"#,
            Some(Outcome::Timeout),
        ),
    ] {
        let text = format!(r#"{{"kind":"Session","status":{status}}}"#);
        assert_eq!(read(&text).outcome, expected, "{status}");
    }
}

#[test]
fn an_unfinished_image_build_is_skipped() {
    for status in [
        r#"{"building":{"startedAt":"2026-11-22T15:22:07Z"}}"#,
        r#"{"completed":{"startedAt":"2026-11-22T15:22:07Z"}}"#,
        r#"{"completed":{"startedAt":"0001-01-01T00:00:00Z","finishedAt":"2026-11-22T15:22:07Z"}}"#,
    ] {
        let text =
            format!(r#"{{"kind":"DockerImage","metadata":{{"name":"a:a"}},"status":{status}}}"#);
        assert_eq!(read(&text).image_builds, [], "{status}");
    }
}

#[test]
fn a_tag_is_neither_a_port_nor_a_digest() {
    for (reference, expected) in [
        ("web:tilt-784d6ceae4ab9cfe", Some("tilt-784d6ceae4ab9cfe")),
        ("localhost:5005/team/web:tilt-1", Some("tilt-1")),
        ("localhost:5005/web", None),
        ("web@sha256:abc", None),
        ("web", None),
    ] {
        assert_eq!(tag(reference).as_deref(), expected, "{reference}");
    }
}

#[test]
fn the_resource_type_follows_the_specs() {
    for (name, specs, span, expected) in [
        ("web", &["image", "k8s"][..], "", Some(ResourceType::K8s)),
        ("web", &["image", "docker-compose"], "", Some(ResourceType::DockerCompose)),
        ("lint", &["local"], "", Some(ResourceType::Local)),
        ("base", &["image"], "", Some(ResourceType::ImageOnly)),
        ("(Tiltfile)", &[], "", Some(ResourceType::Tiltfile)),
        ("ext:x", &[], "tiltfile:ext:x:1", Some(ResourceType::Tiltfile)),
        ("new", &[], "", None),
    ] {
        let specs: Vec<_> =
            specs.iter().map(|s| TargetSpec { target_type: Some((*s).to_owned()) }).collect();
        let history = [RawUpdate { span_id: Some(span.to_owned()), ..RawUpdate::default() }];
        assert_eq!(resource_type(name, &specs, &history), expected, "{name} {span}");
    }
}
