//! The clients of the API server: how it is reached, and which client waits for what.

use std::time::Duration;

use anyhow::Context as _;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};

use crate::config;

/// No request of tools or actions waits longer for the API server's next byte.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How to reach the API server: as the ServiceAccount inside a cluster, else by the kubeconfig.
///
/// # Errors
/// When neither is usable.
pub async fn kubernetes(settings: &config::Kubernetes) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &settings.kubeconfig {
        let read = Kubeconfig::read_from(file).context("kubernetes.kubeconfig")?;
        return kube::Config::from_custom_kubeconfig(read, &options).await.context("kubernetes.kubeconfig");
    }
    match kube::Config::incluster() {
        Ok(config) => Ok(config),
        Err(_) => kube::Config::from_kubeconfig(&options)
            .await
            .context("no ServiceAccount (not in a cluster) and no kubeconfig: set kubernetes.kubeconfig"),
    }
}

/// The client of tools and actions, without hidden retries, and the same server without any credential.
///
/// # Errors
/// When the client cannot be built.
pub fn tools(kubernetes: &kube::Config) -> anyhow::Result<(kube::Client, kube::Config)> {
    let mut config = kubernetes.clone();
    config.default_retry = false;
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    let client = kube::Client::try_from(config.clone())?;
    config.auth_info = AuthInfo::default();
    Ok((client, config))
}

/// The cluster of whoever sits at the terminal: the kubeconfig's context (its current one unless `context` names
/// another), and what that context is called. Inside a pod without a kubeconfig: its ServiceAccount.
///
/// # Errors
/// When there is no usable kubeconfig, with what to do.
pub async fn at_hand(context: Option<&str>) -> anyhow::Result<(kube::Config, String)> {
    let read = match Kubeconfig::read() {
        Ok(read) => read,
        Err(error) => {
            let config = kube::Config::incluster().ok().filter(|_| context.is_none());
            return config.map(|config| (config, "in-cluster".to_owned())).with_context(|| {
                format!("no kubeconfig ({error}): set KUBECONFIG, or try it on a simulated cluster with --scenario")
            });
        }
    };
    let name = context.map(str::to_owned).or_else(|| read.current_context.clone());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        anyhow::bail!(
            "the kubeconfig has no current context: choose one with --context, or `kubectl config use-context`"
        )
    };
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let known: Vec<String> = read.contexts.iter().map(|context| context.name.clone()).collect();
    let config = kube::Config::from_custom_kubeconfig(read, &options)
        .await
        .with_context(|| format!("context {name} of the kubeconfig (it has: {})", known.join(", ")))?;
    Ok((config, name))
}
