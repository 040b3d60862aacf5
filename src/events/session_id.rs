//! The id of one run of Tilt. Pure.

use crate::base::ids;
use crate::events::observation::Observation;
use crate::tilt::model::MAIN_TILTFILE;

/// Returns the uid of the `UISession`. Old versions of Tilt show none. Then the id is a hash of
/// Tilt's start and its Tiltfile, or else of the uid of the resource `(Tiltfile)`, which lives as
/// long as the session. The id is empty if Tilt shows none of these.
pub fn session_id(observation: &Observation) -> String {
    let session = observation.session;
    if let Some(uid) = session.and_then(|session| session.uid.as_ref()) {
        return uid.clone();
    }
    if let Some(started_at) = observation.tilt_started_at() {
        let tiltfile = session.and_then(|session| session.tiltfile.as_deref()).unwrap_or_default();
        return ids::id(&["session", &started_at.text, tiltfile], 32);
    }
    let tiltfile = observation.resources.iter().find(|resource| resource.name == MAIN_TILTFILE);
    let uid = tiltfile.and_then(|resource| resource.uid.as_deref());
    uid.map_or_else(String::new, |uid| ids::id(&["session", uid], 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::{Resource, Session, Snapshot, Timestamp};

    #[test]
    fn a_session_without_a_uid_gets_a_stable_id() {
        let started = Session {
            tilt_started_at: Timestamp::parse("2026-11-22T15:00:00Z"),
            tiltfile: Some("/home/ann/Tiltfile".into()),
            ..Session::default()
        };
        let by_start = Snapshot { session: Some(started), ..Snapshot::default() };
        let tiltfile =
            Resource { name: "(Tiltfile)".into(), uid: Some("u-1".into()), ..Resource::default() };
        let by_resource = Snapshot { resources: vec![tiltfile], ..Snapshot::default() };
        for snapshot in [&by_start, &by_resource] {
            let id = session_id(&Observation::at(snapshot));
            assert_eq!((id.len(), &id), (32, &session_id(&Observation::at(snapshot))));
            assert!(!id.contains("ann"));
        }
        assert_ne!(
            session_id(&Observation::at(&by_start)),
            session_id(&Observation::at(&by_resource))
        );
        assert_eq!(session_id(&Observation::at(&Snapshot::default())), "");
    }
}
