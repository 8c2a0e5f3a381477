//! One port: WebSocket upgrades on any path, health for whoever asks, a setup code for who has its address.

mod body;
mod complaints;
mod entrance;
mod handshakes;
mod head;
mod health;
mod join;
mod pacer;
mod socket;
mod wire;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::DispatchError;
use actix_http::h1::UpgradeHandler;
use actix_http::{HttpServiceBuilder, KeepAlive, Request, Response};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service as ActixService, ServiceFactory, ServiceFactoryExt, apply_fn_factory,
    fn_service, map_config,
};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{AppConfig, RequestHead, Server, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::middleware::DefaultHeaders;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tidegate_actors::Gateway;
use tidegate_actors::connection::{FrameLimit, Outbound};
use tidegate_actors::session::Session;
use tidegate_actors::supervise::{AdoptChild, watch};

use crate::tls::ServerTls;
use body::{GOODBYE, LastWords, Served};
use complaints::Complaints;
use entrance::Entrance;
use handshakes::Handshakes;
use head::judge;
use wire::{OverTcp, Wire};

/// How long a session may take to stop at shutdown.
const SESSION_SHUTDOWN: Duration = Duration::from_secs(1);

/// A socket to serve on, bound already.
pub struct Listening {
    /// The socket.
    pub listener: TcpListener,
    /// With TLS, and nothing else; without, plain HTTP.
    pub tls: Option<ServerTls>,
}

/// Serves on listeners that are bound already. Signals are the caller's.
///
/// # Errors
/// If a listener can't be used.
pub fn serve(gateway: &Gateway, listening: Vec<Listening>) -> std::io::Result<Server> {
    let mut server = Server::build()
        .workers(1)
        .backlog(1024)
        .max_concurrent_connections(8192)
        .shutdown_timeout(2)
        .disable_signals();
    let complaints = Complaints::default();
    for (number, Listening { listener, tls }) in listening.into_iter().enumerate() {
        let (gateway, stopping) = (gateway.clone(), server.graceful_shutdown_signal());
        let complaints = complaints.clone();
        let name = format!("http-{number}");
        server = match tls {
            None => server.listen(name, listener, move || {
                let http = http1(&stopping).h1(map_config(app(&gateway), |()| AppConfig::default()));
                fn_service(async |stream: TcpStream| Ok::<_, ()>(enter(stream)))
                    .and_then(attributed(http, complaints.clone()))
            })?,
            Some(tls) => {
                let handshakes = Handshakes::new(tls.config());
                server.listen(name, listener, move || {
                    let http =
                        http1(&stopping).secure().h1(map_config(app(&gateway), |()| AppConfig::default()));
                    let handshakes = handshakes.clone();
                    fn_service(move |stream| handshakes.clone().enter(stream))
                        .map_err(|error| tracing::debug!(%error, "no TLS connection"))
                        .map(enter::<TlsStream<TcpStream>>)
                        .and_then(attributed(http, complaints.clone()))
                })?
            }
        };
    }
    Ok(server.run())
}

fn enter<T: OverTcp>(stream: T) -> Entered<T> {
    let from = stream.tcp().peer_addr().ok();
    (Entrance::new(stream), from)
}

/// A connection and the address it came from.
type Entered<T> = (Entrance<T>, Option<SocketAddr>);

/// HTTP whose failures are told with the address that they came from.
fn attributed<T: 'static>(
    http: impl ServiceFactory<Entered<T>, Config = (), Response = (), Error = DispatchError, InitError = ()>,
    complaints: Complaints,
) -> impl ServiceFactory<Entered<T>, Config = (), Response = (), Error = (), InitError = ()> {
    apply_fn_factory(http, move |entered: Entered<T>, http| {
        let (from, complaints) = (entered.1, complaints.clone());
        let served = ActixService::call(http, entered);
        async move {
            let ended = served.await;
            if let Err(error) = &ended {
                complaints.ended(error, from);
            }
            ended
        }
    })
    .map_err(drop)
}

/// HTTP/1.1 over any stream, with the limits of a gateway.
fn http1<T, S>(
    stopping: &GracefulShutdownSignal,
) -> HttpServiceBuilder<T, S, impl Unexpecting + use<T, S>, UpgradeHandler>
where
    T: OverTcp + 'static,
    S: ServiceFactory<Request, Config = ()>,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: std::fmt::Debug,
    <S::Service as ActixService<Request>>::Future: 'static,
{
    let stopping = stopping.clone();
    HttpServiceBuilder::default()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        // The entrance keeps the time of the head.
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(Duration::from_secs(1))
        // One request a connection: nobody needs more, and half of a second one would have no deadline.
        .keep_alive(KeepAlive::Disabled)
        .expect(fn_service(unexpected))
        .on_connect_ext(|connection: &T, extensions| {
            if let Some(wire) = Wire::of(connection) {
                extensions.insert(wire);
                extensions.insert(Served::default());
            }
        })
}

/// Answers requests that wait for word to send their body.
trait Unexpecting:
    ServiceFactory<Request, Config = (), Response = Request, Error = Response<BoxBody>, InitError = ()>
{
}

impl<F> Unexpecting for F where
    F: ServiceFactory<Request, Config = (), Response = Request, Error = Response<BoxBody>, InitError = ()>
{
}

/// No route reads a body: nobody is asked to send one, only to be refused afterwards.
async fn unexpected(_: Request) -> Result<Request, Response<BoxBody>> {
    let mut refusal = Response::build(StatusCode::EXPECTATION_FAILED);
    refusal.insert_header((header::CACHE_CONTROL, "no-store")).force_close();
    Err(refusal.body("no request here has a body").map_into_boxed_body())
}

/// What is served, whatever it comes over.
fn app(
    gateway: &Gateway,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = ServiceResponse<impl MessageBody + use<>>,
    Error = actix_web::Error,
    InitError = (),
> + use<> {
    App::new()
        .app_data(web::Data::new(gateway.clone()))
        .wrap_fn(|request, service| {
            let last_words = LastWords::of(&request);
            let second = Served::second(&request);
            let answer = match malformed(request.head()) {
                None if second.is_none() => Ok(service.call(request)),
                why => Err(request.into_response(HttpResponse::BadRequest().body(why.unwrap_or_default()))),
            };
            async move {
                if let Some(kill) = second {
                    actix_web::rt::time::sleep(GOODBYE).await;
                    kill();
                }
                let answer = match answer {
                    Ok(answer) => answer.await?,
                    Err(refusal) => refusal,
                };
                Ok(last_words.after(answer))
            }
        })
        .wrap(
            DefaultHeaders::new()
                .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .add((header::X_FRAME_OPTIONS, "DENY"))
                .add((header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
                .add((header::REFERRER_POLICY, "no-referrer"))
                .add((header::PERMISSIONS_POLICY, "camera=(), microphone=(), geolocation=()"))
                .add((header::CACHE_CONTROL, "no-store")),
        )
        .configure(routes)
        .default_service(web::to(anything_else))
        .into_factory()
}

/// What no route should have to think about: a request for another server, one that leaves open which, or an upgrade
/// with a body, of which it is open where it ends.
fn malformed(head: &RequestHead) -> Option<&'static str> {
    if head.uri.authority().is_some() {
        return Some("absolute request targets are not served");
    }
    if head.headers.get_all(header::HOST).count() != 1 {
        return Some("one Host header is required");
    }
    let ambiguous = head.headers.contains_key(header::UPGRADE) && body::is_announced(head);
    ambiguous.then_some("an upgrade has no body")
}

fn routes(config: &mut web::ServiceConfig) {
    for path in ["/healthz", "/health"] {
        config.service(probe(path).route(web::get().to(health::live)).route(web::head().to(health::live)));
    }
    for path in ["/readyz", "/ready"] {
        config.service(probe(path).route(web::get().to(health::ready)).route(web::head().to(health::ready)));
    }
    config.service(
        probe("/startupz").route(web::get().to(health::started)).route(web::head().to(health::started)),
    );
    config.service(
        web::resource("/j/{id}")
            .route(web::route().guard(actix_web::guard::fn_guard(is_upgrade)).to(anything_else))
            .default_service(web::to(join::redeem)),
    );
}

/// A resource that only reads: a WebSocket may still be opened on its path.
fn probe(path: &str) -> actix_web::Resource {
    let upgrade = actix_web::guard::fn_guard(is_upgrade);
    web::resource(path).route(web::route().guard(upgrade).to(anything_else)).default_service(web::to(
        || async { HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET, HEAD")).finish() },
    ))
}

fn is_upgrade(context: &actix_web::guard::GuardContext<'_>) -> bool {
    context.head().headers().contains_key(header::UPGRADE) && context.head().method == Method::GET
}

async fn anything_else(
    request: HttpRequest,
    body: web::Payload,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, actix_web::Error> {
    if request.headers().contains_key(header::UPGRADE) {
        return upgrade(&request, body, &gateway).await;
    }
    let peer = match judge(&request, &gateway) {
        Ok(peer) => peer,
        Err(refusal) => return Ok(refused(refusal)),
    };
    let front = request.path() == "/" && matches!(*request.method(), Method::GET | Method::HEAD);
    if front && peer.may_see_details() {
        let text =
            "Tidegate is running. Its clients connect to this address by WebSocket; see `tidegate status`.\n";
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text));
    }
    Ok(HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("Not Found"))
}

fn refused(refusal: tidegate_actors::auth::HttpRefusal) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    HttpResponse::build(status).content_type("application/json").body(refusal.body())
}

/// What `socket::check` does not look at: the version of HTTP, the key's form, and whether a header is there twice.
fn is_well_formed(request: &HttpRequest) -> bool {
    let single = |name| {
        let mut values = request.headers().get_all(name);
        let value = values.next().map(HeaderValue::as_bytes);
        value.filter(|_| values.next().is_none())
    };
    let key = single(header::SEC_WEBSOCKET_KEY).and_then(|key| BASE64_STANDARD.decode(key).ok());
    request.version() == Version::HTTP_11
        && single(header::SEC_WEBSOCKET_VERSION) == Some(b"13")
        && key.is_some_and(|key| key.len() == 16)
}

/// In the order of the decision table: well-formed, who, room; everything after that is the session's.
async fn upgrade(
    request: &HttpRequest,
    body: web::Payload,
    gateway: &Gateway,
) -> Result<HttpResponse, actix_web::Error> {
    if !is_well_formed(request) {
        return Ok(HttpResponse::BadRequest().body("not a WebSocket upgrade of version 13"));
    }
    socket::check(request)?;
    if gateway.is_draining() {
        return Ok(HttpResponse::ServiceUnavailable().body("Gateway websocket admission closed"));
    }
    let peer = match judge(request, gateway) {
        Ok(peer) => peer,
        Err(refusal) => return Ok(refused(refusal)),
    };
    let Some(wire) = request.conn_data::<Wire>().cloned() else {
        return Ok(HttpResponse::InternalServerError().finish());
    };
    let Ok(permit) = gateway.budget.enter(&peer).await else {
        return Ok(HttpResponse::ServiceUnavailable().body("Too many unauthenticated sockets"));
    };
    let (outbound, outgoings) = Outbound::new(uuid::Uuid::new_v4().to_string(), wire.kill.clone());
    let name = outbound.conn_id().to_owned();
    let limit = FrameLimit::default();
    let session = Session::new(gateway.clone(), peer, outbound, limit.clone(), permit);
    let (session, watched) = watch(session);
    gateway.sessions.tell(AdoptChild { name, watched, shutdown: SESSION_SHUTDOWN });
    socket::start(request, body, session, outgoings, limit, wire)
}
