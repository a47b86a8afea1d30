//! `POST /v1/tags`.

use crate::support::TestServer;

#[test]
fn a_line_a_user() {
    let server = TestServer::with_people();
    assert_eq!(server.get("/readyz").send().expect("get").status(), 200);
}
