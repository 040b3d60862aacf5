//! Any text as an error, or as the name of a stage. The first byte chooses the object that shows it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::events::failure::classes::TABLE;
use tilt_honeycomb::events::failure::{Failure, Place, TEXT_LIMIT, Target, pod_status};
use tilt_honeycomb::events::stage_label::StageLabel;

const PLACES: [Place; 12] = [
    Place::DockerImage,
    Place::CmdImage,
    Place::Stage,
    Place::Tiltfile,
    Place::Session,
    Place::Cluster,
    Place::Update(Target::Kubernetes),
    Place::Update(Target::DockerCompose),
    Place::Update(Target::Local),
    Place::Update(Target::Image),
    Place::Update(Target::LiveUpdate),
    Place::Update(Target::Unknown),
];

fuzz_target!(|bytes: &[u8]| {
    let [place, bytes @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(bytes);
    let place = PLACES[usize::from(*place) % PLACES.len()];
    let failure = Failure::classify(&text, place);
    assert!(TABLE.iter().any(|class| class.name == failure.class));
    assert_eq!(failure.hash.len(), 16);
    assert!(failure.text.len() <= TEXT_LIMIT && text.starts_with(&failure.text));
    assert_eq!(failure, Failure::classify(&text, place));
    // The words of a quoted command never decide the class.
    let own = text.replace(['\\', '"', '\n'], " ");
    let command = format!("Command \"{own}\" failed: exit status 4");
    let of_command = Failure::classify(&command, Place::Update(Target::Local));
    assert_eq!((of_command.class, of_command.exit_code), ("command_failed", Some(4)));
    pod_status::class_of(&text);
    let label = StageLabel::of(&text);
    assert!(label.label.ends_with(label.instruction));
});
