//! A byte of a mirror, to see whether it lives.

use crate::chunk::MirrorId;
use crate::fetch::plane::Plane;
use crate::scheduler::Event;
use std::sync::Arc;

/// Ask for it, of a file that the mirror has served. On the thread of the driver.
pub fn spawn(plane: &Arc<Plane>, mirror: MirrorId) {
    let plane = plane.clone();
    let served = plane.mirrors.of(mirror).words().served;
    tokio::task::spawn_local(async move {
        let path = served.as_ref().map(|file| file.path.as_slice());
        let result = plane.mirrors.of(mirror).source.probe(path).await;
        let result = result.map_err(|failure| plane.failed(mirror, &failure));
        if result.is_ok() {
            plane.answered();
        }
        plane.inbox.tell(Event::ProbeDone { mirror, result });
    });
}
